"""What a masked vector looks like to a server: noise, whatever the input."""

from __future__ import annotations

import numpy as np
import pytest
from tests.privacy.sa1.transcript import offer_of, parties_of, play, purpose_of

from umbel.privacy.distinguish import byte_excess, lag_excess, linear_complexity, pair_excess, signs
from umbel.privacy.sa1.conversation import Conversation

WORDS = 60_000


def upload_of(value: int, suite: str = "SA1", seed: str = "statistics") -> np.ndarray:
    """A client's upload for a vector of equal words."""
    parties, purpose = parties_of(3, seed=seed), purpose_of(3, WORDS)
    vectors = {name: np.full(purpose.encoding.length, value, np.uint32) for name in parties}
    return play(parties, Conversation(offer_of(3, suite=suite), purpose, list(parties)), vectors).uploads["000"]


@pytest.mark.parametrize("suite", ["SA1", "SA1-C"])
def test_the_upload_of_zeros_has_the_linear_complexity_of_noise(suite):
    bits = upload_of(0, suite)[:44_000] & 1
    assert abs(linear_complexity(bits) - 22_000) < 60


def test_the_linear_complexity_test_catches_a_mersenne_twister():
    weak = np.random.Generator(np.random.MT19937(1)).integers(0, 2**32, 44_000, np.uint32) & 1
    assert linear_complexity(weak) <= 19_937


def test_bytes_of_an_upload_are_uniform():
    assert byte_excess(upload_of(0)) < 6


def test_words_of_an_upload_do_not_depend_on_earlier_ones():
    assert abs(lag_excess(upload_of(0))) < 6


def test_uploads_of_very_different_inputs_look_alike():
    assert pair_excess(upload_of(0), upload_of(2**31 - 1, seed="another")) < 6


def test_what_is_no_noise_is_seen():
    slow = np.arange(WORDS, dtype=np.uint32) * 9973
    assert byte_excess(slow) > 6 or abs(lag_excess(slow)) > 6
    assert pair_excess(upload_of(0), np.zeros(WORDS, np.uint32)) > 6
    assert all(sign.is_there for sign in signs(np.zeros(WORDS, np.uint32)).values())
    assert not any(sign.is_there for sign in signs(upload_of(0)).values())
