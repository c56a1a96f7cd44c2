"""The abstract engine of an intersection: who blinds ids, and how two blinded sets are held against each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class Blinding(ABC):
    """One side of one intersection, with a fresh secret. Both sides' sets are bytes, each once."""

    @abstractmethod
    def request(self, ids: Sequence[bytes]) -> bytes:
        """The asker's ids, blinded."""

    @abstractmethod
    def count(self, request: bytes) -> int:
        """How many ids are in a request.

        Raises:
            ProtocolError: it is none.
        """

    @abstractmethod
    def reply(self, request: bytes, ids: Sequence[bytes]) -> tuple[bytes, bytes]:
        """The holder's ids, blinded, and the asker's, blinded once more.

        Raises:
            ProtocolError: the request is none.
        """

    @abstractmethod
    def common(self, setup: bytes, response: bytes, asked: int) -> list[int]:
        """The places, among the asker's ids, of those that both have.

        Args:
            asked: how many ids were in the request.

        Raises:
            ProtocolError: what the holder sent is no reply to this request.
        """
