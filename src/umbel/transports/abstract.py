"""What every transport gives: links that carry whole packets in order, a listener, a way to connect."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

Bytes: TypeAlias = "bytes | bytearray | memoryview"


class Receiver(Protocol):
    """Who is told what a link brings; all calls come from the event loop's thread."""

    def packet(self, data: memoryview) -> None:
        """One whole packet; the view is valid during the call only."""
        ...

    def writable(self) -> None:
        """There is room again after `write` said there was none."""
        ...

    def closed(self, reason: str) -> None:
        """The link is gone. Told once, last of all."""
        ...


class Link(ABC):
    """One connection.

    Attributes:
        peer: the name in the peer's certificate, if it showed one.
        certificate: the peer's certificate as DER bytes, if it showed one.
        address: where the peer is, for people to read.
    """

    peer: str | None = None
    certificate: bytes | None = None
    address: str = ""

    @abstractmethod
    def start(self, receiver: Receiver) -> None:
        """Begin to deliver packets."""

    @abstractmethod
    def write(self, parts: Sequence[Bytes]) -> bool:
        """Send one packet. False says that the receiver's `writable` is to be waited for before the next.

        The parts may be read until `writable` is told, so they must not change before that.
        """

    @abstractmethod
    def close(self, reason: str = "") -> None:
        """End the connection, after what was written has gone out. Safe to call twice."""

    @abstractmethod
    def abort(self) -> None:
        """End the connection at once."""


Arrival: TypeAlias = Callable[[Link], None]


class Listener(ABC):
    """A place where links arrive."""

    address: str
    """Where others connect to, with the port that was really taken."""

    @abstractmethod
    async def close(self) -> None:
        """Take no more links; those that are there stay."""


class Transport(ABC):
    """A way to make links. `tls` is a ready context; None is plaintext."""

    @abstractmethod
    async def listen(self, address: str, arrived: Arrival, *, tls: ssl.SSLContext | None = None) -> Listener:
        """Listen at "host:port"; port 0 takes a free one.

        Raises:
            LinkError: the address cannot be listened at.
        """

    @abstractmethod
    async def connect(self, address: str, *, tls: ssl.SSLContext | None = None, timeout_s: float = 10.0) -> Link:
        """Connect to "host:port".

        Raises:
            LinkError: nobody answers there, or the certificates do not fit.
        """
