"""What a masked vector looks like to a server: noise, whatever the input."""

from __future__ import annotations

import numpy as np
import pytest
from tests.privacy.sa1.transcript import offer_of, parties_of, play

WORDS = 60_000


def upload_of(value: int, suite: str = "SA1", seed: str = "statistics") -> np.ndarray:
    """A client's upload for a vector of equal words."""
    parties = parties_of(3, seed=seed)
    offer = offer_of(3, WORDS, suite=suite)
    vectors = {name: np.full(offer.encoding.length, value, np.uint32) for name in parties}
    return play(parties, offer, vectors).uploads["000"]


def linear_complexity(bits: np.ndarray) -> int:
    """The length of the shortest shift register that makes these bits (Berlekamp and Massey), with integers as sets."""
    now, before, length, shift, past = 1, 1, 0, 1, 0
    for place, bit in enumerate(bits.tolist()):
        past = past << 1 | bit
        # Bit i of `past` is the bit i places ago, bit i of `now` whether the register reads it.
        if (now & past).bit_count() & 1:
            if 2 * length <= place:
                now, before, length, shift = now ^ before << shift, now, place + 1 - length, 1
                continue
            now ^= before << shift
        shift += 1
    return length


@pytest.mark.parametrize("suite", ["SA1", "SA1-C"])
def test_the_upload_of_zeros_has_the_linear_complexity_of_noise(suite):
    bits = upload_of(0, suite)[:44_000] & 1
    assert abs(linear_complexity(bits) - 22_000) < 60


def test_the_linear_complexity_test_catches_a_mersenne_twister():
    weak = np.random.Generator(np.random.MT19937(1)).integers(0, 2**32, 44_000, np.uint32) & 1
    assert linear_complexity(weak) <= 19_937


def test_bytes_of_an_upload_are_uniform():
    counts = np.bincount(upload_of(0).view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * (2 * 255) ** 0.5


def test_words_of_an_upload_do_not_depend_on_earlier_ones():
    values = upload_of(0).astype(np.float64) / 2**32 - 0.5
    for lag in (1, 2, 3, 16, 4096):
        correlation = (values[lag:] * values[:-lag]).mean() * 12
        assert abs(correlation) < 6 / np.sqrt(values.size - lag)


def test_uploads_of_very_different_inputs_look_alike():
    """Two-sample chi-square over bytes."""
    one = np.bincount(upload_of(0).view(np.uint8), minlength=256)
    two = np.bincount(upload_of(2**31 - 1, seed="another").view(np.uint8), minlength=256)
    assert ((one - two) ** 2 / (one + two)).sum() < 255 + 6 * (2 * 255) ** 0.5
