"""`LogKey`: the Ed25519 key with which a server signs its runs' logs and the receipts of nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

from umbel.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE = "log.key"
BEGINS = b"-----BEGIN CERTIFICATE-----"


@final
@dataclass(frozen=True)
class LogKey:
    """A key that signs.

    Attributes:
        certificate: of the server's CA, as PEM, that says so; empty for a key that nobody vouches for.
    """

    private: Ed25519PrivateKey = field(repr=False)
    certificate: str = ""

    @classmethod
    def read(cls, pem: bytes, what: str) -> LogKey:
        """The key in a PEM, and the certificate before it if there is one; `what` names it in the error.

        Raises:
            ConfigError: it is none.
            ImportError: `cryptography` is not installed.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        first, mark, rest = pem.partition(b"-----BEGIN PRIVATE KEY-----")
        try:
            private = load_pem_private_key(mark + rest, None)
            certificate = first.decode("ascii") if first.startswith(BEGINS) else ""
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = certificate = None
        if not isinstance(private, Ed25519PrivateKey) or certificate is None:
            raise ConfigError(f"{what} is no Ed25519 key in PEM; restore it from a backup, or remove it for a new one")
        return cls(private, certificate)

    @property
    def public(self) -> str:
        """The public key, 64 hexadecimal digits."""
        return self.private.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """The signature, 128 hexadecimal digits."""
        return self.private.sign(message).hex()


def key_beside(folder: Path) -> LogKey | None:
    """The key that signs runs kept in `folder`, which is made there at first use, for this user only.

    Returns:
        None if `cryptography` is not installed: then nothing is signed.

    Raises:
        ConfigError: the file is no key.
        StoreError: it cannot be read or made.
    """
    path = folder / FILE
    try:
        if not path.exists():
            pem = new_pem()
            # Not before: identity needs the package that `new_pem` has just found.
            from umbel.identity.files import make_private

            make_private(path, pem)
        return LogKey.read(path.read_bytes(), str(path))
    except ImportError:
        return None
    except OSError as error:
        raise StoreError(f"the key {path} cannot be used: {error.strerror}; choose another place for runs") from error


def new_pem() -> bytes:
    """A fresh private key as PEM."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
