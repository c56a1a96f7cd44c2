"""TLS from PEM files or bytes: mutual, TLS 1.2 or later, nothing trusted but the CA that is given."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, final

from umbel.errors import ConfigError

Pem: TypeAlias = "bytes | str | Path"
Certificates: TypeAlias = "tuple[Pem, Pem, Pem]"


@final
@dataclass(frozen=True)
class Tls:
    """One side's certificates, as PEM bytes. Make it with `server_tls` or `client_tls`, which look whether they fit.

    Attributes:
        ca: whose certificates the other side has to show.
        certificate: what this side shows, with the chain up to the CA; empty is nothing.
        key: the certificate's private key.
        clients: at a server, whether clients have to show a certificate.
    """

    ca: bytes
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    clients: bool = True

    def server_context(self) -> ssl.SSLContext:
        """What the standard library wants at a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.load_into(context)
        context.verify_mode = ssl.CERT_REQUIRED if self.clients else ssl.CERT_OPTIONAL
        return context

    def client_context(self) -> ssl.SSLContext:
        """What the standard library wants at a client: the server's name is checked, too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give a context these certificates; handshakes from now on show them, links that are there stay."""
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.ca.decode("ascii"))
        if self.certificate:
            with _file(self.certificate) as first, _file(self.key) as second:
                # Without a password given, an encrypted key would be asked for on the terminal.
                context.load_cert_chain(first, second, password=b"")


def server_tls(certificates: Certificates, *, clients: bool = True) -> Tls:
    """A server's side.

    Args:
        certificates: (CA, certificate, key), each a PEM file or its bytes.
        clients: whether clients have to show a certificate of the CA.

    Raises:
        ConfigError: they cannot be read, or do not fit together.
    """
    return _checked(*_three(certificates), clients=clients)


def client_tls(ca: Pem, certificate: Pem | None = None, key: Pem | None = None) -> Tls:
    """A node's side; with a certificate and its key it can say who it is.

    Raises:
        ConfigError: they cannot be read, or do not fit together.
    """
    if (certificate is None) != (key is None):
        raise ConfigError("a certificate needs its key, and a key its certificate; give both, or neither")
    return _checked(ca, certificate or b"", key or b"")


def _three(certificates: object) -> Certificates:
    if not isinstance(certificates, tuple) or len(certificates) != 3:  # pyright: ignore[reportUnknownArgumentType]
        raise ConfigError("certificates are three: (CA, certificate, key), each a PEM file or its bytes")
    return certificates  # pyright: ignore[reportUnknownVariableType]


def _checked(ca: Pem, certificate: Pem, key: Pem, *, clients: bool = True) -> Tls:
    try:
        tls = Tls(_read(ca), _read(certificate), _read(key), clients)
        tls.client_context()
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"certificates cannot be used: {error}; give PEM files (or their bytes) that fit together"
        ) from None
    return tls


def _read(pem: Pem) -> bytes:
    return pem if isinstance(pem, bytes) else Path(pem).read_bytes()


@contextmanager
def _file(pem: bytes) -> Generator[str]:
    """A file that only this user may read, for as long as it takes: OpenSSL reads keys from nothing else."""
    handle, name = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        yield name
    finally:
        os.unlink(name)


def common_name(certificate: dict[str, Any]) -> str | None:
    """The common name in what `ssl` tells of a certificate."""
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return value
    return None


def untrusted(address: str, why: object) -> str:
    """The sentence for certificates that do not fit."""
    return (
        f"{address} and this side do not trust each other: {why}; both need certificates of the CA that the other was "
        "given, the server's must name its address, and either both sides use TLS or neither"
    )
