"""`Purpose`: what a sum is of, bound into its masks and into what is signed of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import final

from umbel.errors import ConfigError, ProtocolError
from umbel.message import require
from umbel.privacy.sa1.encoding import Encoding
from umbel.privacy.sa1.fields import joined, parted

_NUMBERS = struct.Struct("<II")
_TAG = b"umbel SA1 purpose 1"


@final
@dataclass(frozen=True, kw_only=True)
class Purpose:
    """What keys are used for, once. Clients that were told different things mask differently, and sign different sets.

    Args:
        kind: "fit" or "evaluate".
        round, attempt: which round of the run, and which try.
        model: SHA-256 of what the clients are sent: model and configuration.
        encoding: how numbers become integers.
    """

    kind: str
    round: int
    attempt: int
    model: bytes
    encoding: Encoding

    def __post_init__(self) -> None:
        require(len(self.model) == 32, "model is a SHA-256 digest of 32 bytes")

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        numbers = _NUMBERS.pack(self.round, self.attempt)
        return joined(_TAG, self.kind.encode(), numbers, self.model, self.encoding.data)

    def bound(self, header: bytes) -> bytes:
        """The digest of the sum: of its header's digest, and of this."""
        return sha256(b"umbel SA1 sum 1" + header + self.data).digest()

    @classmethod
    def read(cls, data: bytes) -> Purpose:
        """The purpose in these bytes.

        Raises:
            ProtocolError: there is none.
        """
        tag, kind, numbers, model, encoding = parted(data, 5)
        try:
            number, attempt = _NUMBERS.unpack(numbers)
            found = cls(
                kind=kind.decode(), round=number, attempt=attempt, model=model, encoding=Encoding.read(encoding)
            )
        except (ConfigError, UnicodeDecodeError, struct.error) as error:
            raise ProtocolError(f"this is no purpose of a secure sum: {error}") from None
        if tag != _TAG or found.data != data:
            raise ProtocolError("this is no purpose of a secure sum, version 1")
        return found
