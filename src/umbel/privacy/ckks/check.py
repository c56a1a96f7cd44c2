"""A linear check of vectors: whoever does not know its key cannot make a false sum that passes.

Whoever has ciphertexts can add them, and multiply them by polynomials as well. So each client says, sealed for the
other clients alone, Σ ρ_k·w_k modulo 2^61 - 1 of its words, with ρ from a key that no server has. The words that an
opener finds have to have the sum of these: others pass with a chance of 2^-61.

References:
    J. L. Carter, M. N. Wegman, "Universal Classes of Hash Functions", Journal of Computer and System Sciences 18, 1979.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from umbel.privacy.sa1.keys import derived, seal, unseal

MODULUS = 2**61 - 1
CHECK_BYTES, SEALED_BYTES = 8, 24
PIECE = 2**15
_ZEROS = bytes(8 * PIECE)
_LOW = 2**31 - 1


def check(key: bytes, words: NDArray[np.int32]) -> int:
    """Σ ρ_k·w_k modulo 2^61 - 1; ρ is the key stream of AES-256 in counter mode, in words of 61 bits.

    Example:
        >>> one, two = np.int32([5, -7]), np.int32([2**30, 3])
        >>> (check(bytes(32), one) + check(bytes(32), two)) % MODULUS == check(bytes(32), one + two)
        True
    """
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    total = 0
    for start in range(0, words.size, PIECE):
        piece = words[start : start + PIECE].astype(np.int64)
        factors = np.frombuffer(stream.update(_ZEROS[: 8 * piece.size]), "<u8") & np.uint64(MODULUS)
        for shift, part in ((0, factors & np.uint64(_LOW)), (31, factors >> np.uint64(31))):
            products = part.astype(np.int64) * piece
            # Below 2^62 each; halves of 32 bits can be added up without wrapping around.
            high, low = int(np.sum(products >> 32)), int(np.sum(products & 0xFFFFFFFF))
            total += ((high << 32) + low) << shift
    return total % MODULUS


def check_key(dealt: bytes, digest: bytes) -> bytes:
    """The key of ρ, which all clients have."""
    return derived(dealt, b"ckks check", digest, 0, 0)


def sealed(dealt: bytes, digest: bytes, index: int, value: int) -> bytes:
    """What client `index` tells the others of its words."""
    return seal(_between(dealt, digest, index), index, digest, value.to_bytes(CHECK_BYTES, "little"))


def unsealed(dealt: bytes, digest: bytes, index: int, data: bytes) -> int:
    """What `sealed` sealed.

    Raises:
        ProtocolError: it is not of this client, or not of this sum.
    """
    return int.from_bytes(unseal(_between(dealt, digest, index), index, digest, data), "little")


def _between(dealt: bytes, digest: bytes, index: int) -> bytes:
    return derived(dealt, b"ckks sealed check", digest, index, index)
