"""`Credentials`: what a node needs to show who it is. The private key is made here and never leaves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from umbel.errors import IdentityError
from umbel.identity import certificates as x
from umbel.identity.files import private_folder, write_private

FILE = "identity.json"
FORMAT = 1


@final
@dataclass(frozen=True)
class Credentials:
    """A member's own certificate and key, and whom it trusts.

    Attributes:
        ca_pem: the server's CA, and nothing else, is trusted.
        name: the member's name, as in the certificate.
        address: the server's.
    """

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    name: str
    address: str

    @classmethod
    def load(cls, folder: Path) -> Credentials:
        """What `save` wrote.

        Raises:
            IdentityError: nothing is there, or it is damaged.
        """
        path = folder / FILE
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            raise IdentityError(f"{path} is not there: join a server first, with an invitation code") from None
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityError(f"{path} cannot be read: {error}; join again with a new invitation code") from None
        try:
            return _read(text, str(path))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise IdentityError(f"{path} is damaged; join again with a new invitation code") from None

    def save(self, folder: Path) -> None:
        """Keep them in `folder`, in one file that only this user may read, in one piece.

        Raises:
            IdentityError: it cannot be written.
        """
        texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in asdict(self).items()}
        try:
            private_folder(folder)
            write_private(folder / FILE, json.dumps({"format": FORMAT, **texts}, indent=1).encode())
        except OSError as error:
            raise IdentityError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from None

    @property
    def starts_at_s(self) -> float:
        return x.valid_s(x.read_certificate(self.certificate_pem, FILE))[0]

    @property
    def expires_at_s(self) -> float:
        """When the certificate ends, in seconds since 1970."""
        return x.valid_s(x.read_certificate(self.certificate_pem, FILE))[1]

    def why_ended(self, now_s: float) -> str | None:
        """None while the certificate is good; later what happened, and how the member comes back."""
        if now_s <= self.expires_at_s:
            return None
        return (
            f"the certificate of {self.name} ended on {x.day(self.expires_at_s)}, and this machine's clock says "
            f"{x.day(now_s)}; if that is right, ask for a code from umbel invite --name {self.name}, and join with it"
        )

    def wants_renewal(self, now_s: float) -> bool:
        """Whether less than a third of the certificate's life is left."""
        return x.ends_soon(self.starts_at_s, self.expires_at_s, now_s)


def _read(text: str, what: str) -> Credentials:
    told: dict[str, Any] = json.loads(text)
    if told["format"] != FORMAT:
        raise IdentityError(f"{what} has format {told['format']}, this version reads {FORMAT}; update Umbel")
    found = Credentials(
        ca_pem=told["ca_pem"].encode(),
        certificate_pem=told["certificate_pem"].encode(),
        key_pem=told["key_pem"].encode(),
        name=str(told["name"]),
        address=str(told["address"]),
    )
    check_fit(found, what)
    return found


def check_fit(credentials: Credentials, what: str) -> None:
    """Look whether certificate, key, CA and name belong together.

    Raises:
        IdentityError: they do not.
    """
    certificate = x.read_certificate(credentials.certificate_pem, what)
    ca = x.read_certificate(credentials.ca_pem, what)
    if x.public_bytes(certificate) != x.public_bytes(x.read_key(credentials.key_pem, what)):
        raise IdentityError(f"the certificate in {what} is for another key; join again with a new invitation code")
    if not x.issued_by(certificate, ca):
        raise IdentityError(f"the certificate in {what} is of another CA; join again with a new invitation code")
    if x.name_in(certificate) != credentials.name:
        raise IdentityError(f"the certificate in {what} is for another name; join again with a new invitation code")


def make_request(name: str) -> tuple[bytes, bytes]:
    """A fresh private key, and the request for a certificate of it, both as PEM.

    Raises:
        IdentityError: `name` cannot stand in a certificate.
    """
    key = x.new_key()
    return x.write_key(key), x.new_request(key, name)
