"""What every transport gives: links that carry whole packets in order, a listener, a way to connect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from umbel.transports.tls import Tls

Bytes: TypeAlias = "bytes | bytearray | memoryview"


class Receiver(Protocol):
    """Who is told what a link brings.

    All calls come from the event loop's thread, and never from within a call to the link.
    """

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
    """One connection, which both sides have taken.

    A link that is not started reads no further than its buffers reach, so that the other side is told to wait.

    Attributes:
        peer: the common name in the peer's certificate, if it showed one. A node may not learn that of its server.
        certificate: the peer's certificate as DER bytes, if it showed one.
        address: where the peer is, for people to read.
    """

    peer: str | None = None
    certificate: bytes | None = None
    address: str = ""

    @abstractmethod
    def start(self, receiver: Receiver) -> None:
        """Begin to deliver packets. A link that has broken meanwhile says so to `closed`."""

    @abstractmethod
    def write(self, parts: Sequence[Bytes]) -> bool:
        """Send one packet. False says that the receiver's `writable` is to be waited for before the next.

        What is written all the same is sent, and so is what is written after a False; after the end it is dropped.
        """

    @abstractmethod
    def close(self, reason: str = "") -> None:
        """End the connection, after what was written has gone out. Safe to call twice.

        Nothing is delivered from then on but `closed`.
        """

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

    @abstractmethod
    def renew(self, tls: Tls) -> None:
        """Show these certificates to links from now on; those that are there stay. Only where it listens with TLS."""


class Transport(ABC):
    """A way to make links."""

    @abstractmethod
    async def listen(self, address: str, arrived: Arrival, *, tls: Tls | None = None) -> Listener:
        """Listen at "host:port"; port 0 takes a free one.

        Args:
            arrived: told each new link.
            tls: None is plaintext.

        Raises:
            LinkError: the address cannot be listened at.
        """

    @abstractmethod
    async def connect(self, address: str, *, tls: Tls | None = None, timeout_s: float = 10.0) -> Link:
        """Connect to "host:port"; returns when the other side has taken the link.

        Raises:
            LinkError: nobody answers there, or somebody else, or the certificates do not fit.
        """
