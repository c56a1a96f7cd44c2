"""TLS contexts from PEM files or bytes: mutual, TLS 1.2 or later, nothing trusted but the CA that is given."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from umbel.errors import ConfigError

Pem: TypeAlias = "bytes | str | Path"
Certificates: TypeAlias = "tuple[Pem, Pem, Pem]"


def server_context(certificates: Certificates, *, clients: bool = True) -> ssl.SSLContext:
    """A server's context.

    Args:
        certificates: (CA, certificate, key).
        clients: whether clients have to show a certificate of the CA.

    Raises:
        ConfigError: they cannot be read, or do not fit together.
    """
    ca, certificate, key = _three(certificates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, ca, certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_OPTIONAL
    return context


def client_context(ca: Pem, certificate: Pem | None = None, key: Pem | None = None) -> ssl.SSLContext:
    """A node's context; with a certificate and its key it can say who it is.

    Raises:
        ConfigError: they cannot be read, or do not fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, ca, certificate, key)
    return context


def _three(certificates: object) -> Certificates:
    if not isinstance(certificates, tuple) or len(certificates) != 3:  # pyright: ignore[reportUnknownArgumentType]
        raise ConfigError("certificates are three: (CA, certificate, key), each a PEM file or its bytes")
    return certificates  # pyright: ignore[reportUnknownVariableType]


def _load(context: ssl.SSLContext, ca: Pem, certificate: Pem | None, key: Pem | None) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=_text(ca))
        if certificate is not None and key is not None:
            with _file(certificate) as first, _file(key) as second:
                context.load_cert_chain(first, second)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"certificates cannot be used: {error}; give PEM files (or their bytes) that fit together"
        ) from None


def _text(pem: Pem) -> str:
    return pem.decode("ascii") if isinstance(pem, bytes) else Path(pem).read_text("ascii")


@contextmanager
def _file(pem: Pem) -> Generator[str]:
    """A file's name; bytes go through a file that only this user may read, for as long as it takes."""
    if not isinstance(pem, bytes):
        yield str(pem)
        return
    handle, name = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        yield name
    finally:
        os.unlink(name)
