"""SA1 a second time, slowly, in plain integers and bytes: X25519, HKDF, Shamir, masks and encodings written anew.

From outside come SHA-256 and HMAC of the standard library, and single AES blocks; nothing of Umbel.
"""

from __future__ import annotations

import hmac
import struct
from hashlib import sha256

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

CURVE_PRIME = 2**255 - 19
FIELD = 2**31 - 1


def x25519(scalar: bytes, point: bytes) -> bytes:
    """The Montgomery ladder of RFC 7748, section 5."""
    k = int.from_bytes(scalar, "little") & ((1 << 254) - 8) | (1 << 254)
    u = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in range(254, -1, -1):
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb = d * a % CURVE_PRIME, c * b % CURVE_PRIME
        x3, z3 = (da + cb) ** 2 % CURVE_PRIME, u * (da - cb) ** 2 % CURVE_PRIME
        aa, bb = a * a % CURVE_PRIME, b * b % CURVE_PRIME
        e = aa - bb
        x2, z2 = aa * bb % CURVE_PRIME, e * (aa + 121665 * e) % CURVE_PRIME
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, -1, CURVE_PRIME) % CURVE_PRIME).to_bytes(32, "little")


BASE = (9).to_bytes(32, "little")


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, no salt, 32 bytes."""
    extracted = hmac.new(bytes(32), secret, sha256).digest()
    return hmac.new(extracted, info + b"\x01", sha256).digest()


def derived(secret: bytes, purpose: str, digest: bytes, low: int, high: int) -> bytes:
    return hkdf(secret, b"umbel SA1 1 " + purpose.encode() + b"\0" + digest + struct.pack("<II", low, high))


def stream(key: bytes, words: int) -> list[int]:
    """AES-256 in counter mode from zero, block by block, as little-endian words."""
    blocks = []
    for counter in range(-(-words // 4)):
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        blocks.append(encryptor.update(counter.to_bytes(16, "big")))
    return list(struct.unpack(f"<{words}I", b"".join(blocks)[: 4 * words]))


def joined(*fields: bytes) -> bytes:
    return struct.pack(f"<{1 + len(fields)}I", len(fields), *map(len, fields)) + b"".join(fields)


def masked(index: int, vector: list[int], secret: bytes, seed: bytes, masks: list[bytes], digest: bytes) -> list[int]:
    """A client's upload: its words, its own mask, and a mask with every other client."""
    words = [
        word + own
        for word, own in zip(vector, stream(derived(seed, "self", digest, index, index), len(vector)), strict=True)
    ]
    for other, public in enumerate(masks):
        if other == index:
            continue
        low, high = min(index, other), max(index, other)
        pair = stream(derived(x25519(secret, public), "mask", digest, low, high), len(vector))
        sign = 1 if index == low else -1
        words = [word + sign * mask for word, mask in zip(words, pair, strict=True)]
    return [word % 2**32 for word in words]


def limbs(secret: bytes) -> list[int]:
    number = int.from_bytes(secret, "little")
    return [number >> 30 * i & (2**30 - 1) for i in range(9)]


def recovered(shares: dict[int, bytes]) -> bytes:
    """The secret of which these holders (by index) have these shares, by Lagrange in plain integers."""
    number = 0
    for place in range(9):
        value = 0
        for holder, share in shares.items():
            above = below = 1
            for other in shares:
                if other != holder:
                    above, below = above * (other + 1), below * (other - holder)
            value += struct.unpack("<9I", share)[place] * above * pow(below, -1, FIELD)
        number += value % FIELD << 30 * place
    return number.to_bytes(32, "little")


def share_at(coefficients: list[list[int]], secret: list[int], x: int) -> list[int]:
    """f(x) for each limb; the coefficients are those of the highest power first, without the secret."""
    found = []
    for limb, constant in enumerate(secret):
        powers = [row[limb] for row in coefficients] + [constant]
        found.append(sum(c * x ** (len(powers) - 1 - i) for i, c in enumerate(powers)) % FIELD)
    return found
