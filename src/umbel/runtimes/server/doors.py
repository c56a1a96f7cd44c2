"""`Doors`: where clients come in, Umbel's own and those written for Flower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from umbel.errors import ConfigError, LinkError
from umbel.runtimes.server.desk import Desk
from umbel.transports import Listener, transport_for
from umbel.transports.abstract import Arrival
from umbel.transports.tls import Certificates, server_tls

if TYPE_CHECKING:
    from umbel.runtimes.flower.service import FlowerNodes

FAREWELL_S = 2.0
Flower: TypeAlias = "str | Literal[False] | None"
Say: TypeAlias = Callable[[str], None]


@final
@dataclass(frozen=True)
class Doors:
    """What a server listens at.

    Attributes:
        addresses: the nodes' address, and that of Flower clients if it is another one.
        secure: whether nodes have to show a certificate.
    """

    addresses: tuple[str, ...]
    secure: bool
    _nodes: Listener
    _flower: FlowerNodes | None = None
    _server: Any = None

    def announce(self, say: Say) -> None:
        """Say where, and who can come in."""
        say(f"listening at {self.addresses[0]}")
        open_doors = self.addresses[1:] if self.secure else self.addresses
        for address in self.addresses[1:]:
            say(f"listening at {address} for Flower clients")
        if not self.secure and any(map(is_public, open_doors)):
            say(
                "warning: this server speaks plaintext to whoever reaches it: models and updates can be read and "
                "changed on the way. Pass certificates=(ca, certificate, key), or listen at 127.0.0.1"
            )
        elif any(map(is_public, open_doors)):
            say(
                "warning: Flower clients show no certificates: whoever reaches their port can take part in the run. "
                "Leave flower=... out, or listen at 127.0.0.1 for them"
            )

    async def close(self) -> None:
        """Close all, once the desk has said goodbye."""
        if self._flower is not None:
            await self._flower.close()
        if self._server is not None:
            # The last words of streams that have ended may still be on their way.
            await self._server.stop(FAREWELL_S)
        await self._nodes.close()


def is_public(address: str) -> bool:
    """Whether others than this machine's programs may reach an address."""
    return not address.rpartition(":")[0].startswith(("127.", "[::1]"))


async def open_doors(desk: Desk, address: str, flower: Flower, certificates: Certificates | None) -> Doors:
    """Listen.

    Raises:
        ConfigError: an address is none, its library is not installed, or certificates do not fit.
        LinkError: an address cannot be listened at.
    """
    tls = None if certificates is None else server_tls(certificates)
    scheme = address.partition("://")[0]
    # Where nodes have to show certificates, clients that have none cannot come by the same door.
    shared = scheme == "grpc" and flower is None and tls is None
    transport, place = transport_for(address)
    if not shared and not flower:
        nodes = await transport.listen(place, desk.arrived, tls=tls)
        return Doors((nodes.address,), tls is not None, nodes)
    guests = guests_of(desk)
    if shared:
        nodes = await guests.beside_nodes().listen(place, desk.arrived)
        return Doors((nodes.address,), False, nodes, guests)
    assert flower
    nodes = await transport.listen(place, desk.arrived, tls=tls)
    try:
        own = None if certificates is None else server_tls(certificates, clients=False)
        server, taken = await guests.listen(flower, own)
    except (ConfigError, LinkError):
        await nodes.close()
        raise
    return Doors((nodes.address, taken), tls is not None, nodes, guests, server)


def guests_of(desk: Desk, arrived: Arrival | None = None) -> FlowerNodes:
    """Where Flower clients come in.

    Args:
        arrived: told each one's link, in the place of the desk.

    Raises:
        ConfigError: gRPC is not installed.
    """
    try:
        from umbel.runtimes.flower.service import FlowerNodes
    except ImportError as error:
        raise ConfigError(f"Flower clients need {error.name}; install it with: pip install 'umbel[flower]'") from None
    return FlowerNodes(desk, arrived)
