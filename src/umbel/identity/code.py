"""Invitation codes: where the server is, whom to trust there, and a secret that lets one node in, as one word to paste.

The word is base32 of: a version byte, the secret, the SHA-256 of the CA certificate, the address, and a CRC-32. The CRC
is against typing mistakes alone; it finds every change within 32 bits, so every single wrong character.
"""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass, field
from typing import final

from umbel.errors import CodeRefused, IdentityError

VERSION = 1
SECRET_BYTES, DIGEST_BYTES = 16, 32
MAX_ADDRESS_BYTES = 255
_HEAD = 1 + SECRET_BYTES + DIGEST_BYTES
_PASTE_AGAIN = "copy the whole code and paste it again"
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@]+):(?P<port>\d{1,5})")


@final
@dataclass(frozen=True)
class Code:
    """What an invitation code holds.

    Attributes:
        address: the server's, "host:port", with a transport's scheme before it if it is not the default one.
        ca_digest: SHA-256 of the server's CA certificate (DER).
        secret: 16 random bytes that work once.
    """

    address: str
    ca_digest: bytes
    secret: bytes = field(repr=False)


def write_code(code: Code) -> str:
    """The word to paste.

    Raises:
        IdentityError: the address is none.
    """
    host_and_port(code.address)
    body = bytes([VERSION]) + code.secret + code.ca_digest + code.address.encode()
    return _word(body + _check(body))


def read_code(code: str) -> Code:
    """What is in a code; blanks and line ends are left out, capitals do not matter.

    Raises:
        CodeRefused: it is mistyped, cut, or made by a later version.
    """
    word = "".join(code.split()).upper()
    strange = re.search(r"[^A-Z2-7]", word)
    if strange is not None:
        raise CodeRefused(
            f"an invitation code has letters and the digits 2 to 7, this one has {strange[0]!r} at place "
            f"{strange.start() + 1}; {_PASTE_AGAIN}"
        )
    try:
        data = base64.b32decode(word + "=" * (-len(word) % 8))
    except ValueError:
        data = b""
    body, check = data[:-4], data[-4:]
    # The last character has bits to spare, which must not hide a wrong one.
    if len(data) <= _HEAD + 4 or check != _check(body) or _word(data) != word:
        raise CodeRefused(f"this invitation code is mistyped or not complete; {_PASTE_AGAIN}")
    if body[0] != VERSION:
        raise CodeRefused(f"this invitation code has format {body[0]}, this version reads {VERSION}; update Umbel")
    secret, digest, address = body[1 : 1 + SECRET_BYTES], body[1 + SECRET_BYTES : _HEAD], body[_HEAD:]
    try:
        host_and_port(text := address.decode())
    except (UnicodeDecodeError, IdentityError):
        raise CodeRefused("this invitation code holds no server's address; ask for a new one") from None
    return Code(text, digest, secret)


def host_and_port(address: str) -> tuple[str, int]:
    """("host", port) of an address.

    Raises:
        IdentityError: it is none.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) <= 65535 or len(address.encode()) > MAX_ADDRESS_BYTES:
        raise IdentityError(
            f"an address that nodes connect to is host:port with a port from 1 to 65535, got {address!r}; "
            "try server.example.org:8080"
        )
    return found["host"].strip("[]"), int(found["port"])


def _word(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")


def _check(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "little")
