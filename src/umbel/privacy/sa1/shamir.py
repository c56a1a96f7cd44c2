"""Shamir's secret sharing over GF(2^31 - 1): a secret of 32 bytes as nine limbs of 30 bits, many secrets at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ProtocolError

PRIME = 2**31 - 1
LIMBS = 9
LIMB_BITS = 30
SHARE_BYTES = 4 * LIMBS
Entropy = Callable[[int], bytes]
U64 = NDArray[np.uint64]


def limbs_of(secret: bytes) -> U64:
    """32 bytes, read as a little-endian number, in limbs of 30 bits."""
    number = int.from_bytes(secret, "little")
    return np.array([number >> LIMB_BITS * i & (2**LIMB_BITS - 1) for i in range(LIMBS)], np.uint64)


def secret_of(limbs: U64) -> bytes:
    """The 32 bytes in these limbs.

    Raises:
        ProtocolError: the limbs are those of no 32 bytes, so a share was wrong.
    """
    number = sum(int(limb) << LIMB_BITS * i for i, limb in enumerate(limbs))
    if number >= 2**256 or any(int(limb) >= 2**LIMB_BITS for limb in limbs):
        raise ProtocolError("the shares of a secret do not belong together")
    return number.to_bytes(32, "little")


def uniform(count: int, entropy: Entropy) -> U64:
    """So many uniform elements of the field, by rejection."""
    found = np.frombuffer(entropy(4 * count), "<u4").astype(np.uint64) & np.uint64(PRIME)
    while (bad := np.flatnonzero(found == PRIME)).size:
        found[bad] = np.frombuffer(entropy(4 * bad.size), "<u4").astype(np.uint64) & np.uint64(PRIME)
    return found


def split(limbs: U64, threshold: int, places: U64, entropy: Entropy) -> U64:
    """f(x) for each x in `places`, where f has degree threshold - 1, f(0) is the secret and the rest is uniform.

    Args:
        limbs: of shape (m,): any number of secrets, one after the other.
        places: the holders' x, distinct and not 0.

    Returns:
        shares of shape (len(places), m).
    """
    coefficients = uniform((threshold - 1) * limbs.size, entropy).reshape(threshold - 1, limbs.size)
    x, shares = places[:, None], np.zeros((places.size, limbs.size), np.uint64)
    for row in coefficients:
        shares = (shares + row) % PRIME * x % PRIME
    return (shares + limbs) % PRIME


def weights(places: U64) -> U64:
    """Lagrange's weights at 0, Π xⱼ / (xⱼ - xᵢ) over j ≠ i, for each row of holders' x.

    Args:
        places: of shape (m, t), each row of distinct x.
    """
    rows, inverse = np.unique(places, axis=0, return_inverse=True)
    above, below = np.ones_like(rows), np.ones_like(rows)
    for j in range(rows.shape[1]):
        others = np.delete(np.arange(rows.shape[1], dtype=np.int64), j)
        x = rows[:, j : j + 1]
        above[:, others] = above[:, others] * x % PRIME
        below[:, others] = below[:, others] * ((x + PRIME - rows[:, others]) % PRIME) % PRIME
    return (above * _inverse(below) % PRIME)[inverse.reshape(-1)]


def recover(places: U64, shares: U64) -> U64:
    """f(0) of each row: Σ weights · shares.

    Args:
        places: of shape (m, t).
        shares: of shape (m, t, limbs).
    """
    factors, total = weights(places), np.zeros((shares.shape[0], shares.shape[2]), np.uint64)
    for holder in range(places.shape[1]):
        total = (total + factors[:, holder, None] * shares[:, holder]) % PRIME
    return total


def packed(share: U64) -> bytes:
    return share.astype("<u4").tobytes()


def unpacked(data: bytes) -> U64:
    """The elements in these bytes.

    Raises:
        ProtocolError: they are not elements of the field.
    """
    if len(data) % 4:
        raise ProtocolError("shares are whole numbers of four bytes each")
    found: Any = np.frombuffer(data, "<u4").astype(np.uint64)
    if (found >= PRIME).any():
        raise ProtocolError("a share is not an element of the field")
    return found


def _inverse(values: U64) -> U64:
    """values^(p - 2), for p - 2 = 2^31 - 3: all bits of 31 but the second."""
    result, power = np.ones_like(values), values
    for bit in range(31):
        if (PRIME - 2) >> bit & 1:
            result = result * power % PRIME
        power = power * power % PRIME
    return result
