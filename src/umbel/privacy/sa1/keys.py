"""Keys of a sum: made by HKDF-SHA256 over the digest of its header, those of masks over that of the sum."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from umbel.errors import ProtocolError


def public_of(secret: bytes) -> bytes:
    """The public half of an X25519 key."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def identity_of(secret: bytes) -> bytes:
    """The public half of an Ed25519 key."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def signature(secret: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).sign(message)


def is_signed(identity: bytes, found: bytes, message: bytes) -> bool:
    """Whether `identity` signed this."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(found, message)
    except InvalidSignature:
        return False
    return True


def pair_key(private: X25519PrivateKey, other: bytes, purpose: bytes, digest: bytes, low: int, high: int) -> bytes:
    """The key that two clients share for `purpose`; `low` and `high` are their indices.

    Raises:
        ProtocolError: the other's public key is no point that agrees on anything.
    """
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise ProtocolError("a client's X25519 key agrees on nothing (a point of small order)") from None
    return derived(shared, purpose, digest, low, high)


def derived(secret: bytes, purpose: bytes, digest: bytes, low: int, high: int) -> bytes:
    """HKDF-SHA256 without salt; info is "umbel SA1 1 ", purpose, a zero byte, header digest, both indices."""
    info = b"umbel SA1 1 " + purpose + b"\0" + digest + low.to_bytes(4, "little") + high.to_bytes(4, "little")
    return HKDF(SHA256(), 32, None, info).derive(secret)


def seal(key: bytes, sender: int, digest: bytes, plain: bytes) -> bytes:
    """AES-256-GCM. A key serves one message in each direction, so the sender's index is nonce enough."""
    return AESGCM(key).encrypt(sender.to_bytes(12, "little"), plain, digest)


def unseal(key: bytes, sender: int, digest: bytes, sealed: bytes) -> bytes:
    """What `seal` sealed.

    Raises:
        ProtocolError: it was not sealed with this key, by this sender, under this header.
    """
    try:
        return AESGCM(key).decrypt(sender.to_bytes(12, "little"), sealed, digest)
    except InvalidTag:
        raise ProtocolError("a sealed share was changed, or is another's") from None
