"""Any t shares give the secret, fewer give nothing."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import ProtocolError
from umbel.privacy.sa1 import shamir


@given(st.binary(min_size=32, max_size=32))
def test_limbs_hold_a_secret(secret):
    assert shamir.secret_of(shamir.limbs_of(secret)) == secret


@given(st.binary(min_size=32, max_size=32), st.integers(1, 6), st.integers(0, 3), st.randoms(use_true_random=False))
def test_any_t_shares_give_the_secret(secret, threshold, more, random):
    places = np.array(random.sample(range(1, 2000), threshold + more), np.uint64)
    shares = shamir.split(shamir.limbs_of(secret), threshold, places, os.urandom)
    chosen = random.sample(range(threshold + more), threshold)
    found = shamir.recover(places[None, chosen], shares[None, chosen])
    assert shamir.secret_of(found[0]) == secret


def test_fewer_shares_are_uniform_whatever_the_secret():
    """Of t - 1 = 2 shares of a fixed secret all high bits are equally likely, together."""
    places = np.array([1, 2, 3], np.uint64)
    limbs = np.zeros(30_000, np.uint64)
    shares = shamir.split(limbs, 3, places, os.urandom)
    for one, two in itertools.combinations(range(3), 2):
        cells = (shares[one] >> np.uint64(28)) * np.uint64(8) + (shares[two] >> np.uint64(28))
        counts = np.bincount(cells.astype(np.int64), minlength=64)
        expected = limbs.size / 64
        assert ((counts - expected) ** 2 / expected).sum() < 63 + 6 * (2 * 63) ** 0.5


def test_weights_are_lagranges():
    places = np.array([[1, 2, 5], [7, 9, 400]], np.uint64)
    for row, found in zip(places.tolist(), shamir.weights(places).tolist(), strict=True):
        for x, weight in zip(row, found, strict=True):
            above = below = 1
            for other in row:
                if other != x:
                    above, below = above * other, below * (other - x)
            assert weight == above * pow(below, -1, shamir.PRIME) % shamir.PRIME


def test_what_is_no_element_of_the_field_is_refused():
    with pytest.raises(ProtocolError):
        shamir.unpacked(np.array([shamir.PRIME], "<u4").tobytes())
    with pytest.raises(ProtocolError):
        shamir.unpacked(b"abc")


def test_limbs_of_no_secret_are_refused():
    with pytest.raises(ProtocolError):
        shamir.secret_of(np.array([0] * 8 + [2**16], np.uint64))


def test_elements_are_redrawn_until_they_are_in_the_field():
    drawn = iter([b"\xff\xff\xff\xff" + b"\x01\x00\x00\x00", b"\xff\xff\xff\x7f", b"\x05\x00\x00\x80"])
    assert shamir.uniform(2, lambda size: next(drawn)).tolist() == [5, 1]
