"""More doors of `umbel server` beside its port: gRPC and WebSocket for nodes, and one for clients of for Flower."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

from umbel.errors import ConfigError
from umbel.identity import Authority
from umbel.runtimes.server.doors import guests_of, is_public
from umbel.runtimes.server.house import House
from umbel.transports import Listener, transport_for
from umbel.transports.choose import host_and_port
from umbel.transports.tls import server_tls

if TYPE_CHECKING:
    from umbel.runtimes.flower.service import FlowerNodes

FLOWER = "flower"
SCHEMES = ("grpc", "ws", FLOWER)
_HOST = re.compile(r"[\w.:%\[\]-]*")


@final
class Also:
    """The doors beside a server's port.

    Nodes show their certificates at each of them, and the same ones are refused.
    """

    def __init__(self, house: House, authority: Authority | None, say: Callable[[str], None]) -> None:
        self._house, self._authority, self._say = house, authority, say
        self._listeners: list[Listener] = []
        self._guests: list[tuple[FlowerNodes, Any]] = []

    async def open(self, addresses: Sequence[str]) -> None:
        """Listen at all, and say where.

        Raises:
            ConfigError: an address is none, or its library is not installed.
            LinkError: an address cannot be listened at.
        """
        for address in addresses:
            scheme, place = scheme_of(address)
            if scheme == FLOWER:
                await self._open_flower(place)
                continue
            tls = None if self._authority is None else server_tls(self._authority.server_certificates())
            transport, _ = transport_for(address)
            listener = await transport.listen(place, self._house.desk.arrived, tls=tls)
            self._listeners.append(listener)
            self._say(f"also listening at {scheme}://{listener.address}")

    async def _open_flower(self, place: str) -> None:
        guests = guests_of(self._house.desk, self._house.guest_arrived)
        server, taken = await guests.listen(place, None)
        self._guests.append((guests, server))
        self._say(f"also listening at {FLOWER}://{taken} for Flower clients")
        if is_public(taken):
            self._say(
                f"warning: {FLOWER}://{taken} is plaintext and asks for no certificates: whoever reaches it can take "
                "part in runs of the apps that say flower = true, and read and change what is on the way. Listen at "
                "127.0.0.1, or let only a network that you trust reach it"
            )

    def renew(self) -> None:
        """Show the server's certificate, a fresh one if it ends soon, at handshakes from now on.

        Raises:
            IdentityError: there is none to show.
        """
        if self._authority is None:
            return
        tls = server_tls(self._authority.server_certificates())
        for listener in self._listeners:
            listener.renew(tls)

    async def close(self) -> None:
        """Take nobody in any more."""
        for listener in self._listeners:
            await listener.close()

    async def let_go(self) -> None:
        """End the streams of Flower clients, once the desk has said goodbye: they know no server that comes back."""
        for guests, server in self._guests:
            await server.stop(None)
            await guests.close()


def scheme_of(address: str) -> tuple[str, str]:
    """("grpc", "host:port") of "grpc://host:port".

    Raises:
        ConfigError: no door of such a kind can be opened, or host and port are none.
    """
    scheme, separator, place = address.partition("://")
    wanted = f"--also is {', '.join(f'{known}://host:port' for known in SCHEMES[:-1])} or {FLOWER}://host:port"
    if not separator or scheme not in SCHEMES:
        raise ConfigError(f"{wanted}, got {address!r}; what speaks TCP comes by --listen")
    try:
        host, _ = host_and_port(place)
    except ConfigError:
        host = None
    if host is None or not _HOST.fullmatch(host):
        raise ConfigError(f"{wanted} with a port from 0 to 65535, got {address!r}; try {scheme}://127.0.0.1:0")
    return scheme, place
