"""`InTurn`: one of several addresses, for a node whose server has a standby."""

from __future__ import annotations

from typing import final

from umbel.errors import ConfigError, LinkError
from umbel.transports.abstract import Link
from umbel.transports.choose import transport_for
from umbel.transports.tls import Tls

# A machine that is gone answers nothing at all, and another one waits to be asked.
PATIENCE_S, PATIENCE_OF_MANY_S = 10.0, 3.0


def addresses_in(text: str) -> tuple[str, ...]:
    """The addresses in "host:port,host:port".

    Raises:
        ConfigError: one of them is empty.
    """
    found = tuple(part.strip() for part in text.split(","))
    if not all(found):
        raise ConfigError(f"addresses are host:port, with commas between several, got {text!r}")
    return found


@final
class InTurn:
    """Connects to the first address that answers, beginning after the one that was connected to last.

    Args:
        text: "host:port", or several with commas between them.

    Raises:
        ConfigError: one is no address, or its transport is not there.
    """

    def __init__(self, text: str) -> None:
        self.addresses = addresses_in(text)
        self._ways = [transport_for(address) for address in self.addresses]
        self._next = 0

    async def connect(self, tls: Tls | None) -> Link:
        """A link to one of them.

        Raises:
            LinkError: none answers; says why, for each.
        """
        many = len(self._ways)
        reasons: list[str] = []
        for _ in range(many):
            transport, place = self._ways[self._next]
            self._next = (self._next + 1) % many
            try:
                return await transport.connect(
                    place, tls=tls, timeout_s=PATIENCE_S if many == 1 else PATIENCE_OF_MANY_S
                )
            except LinkError as error:
                reasons.append(str(error))
        raise LinkError("; and ".join(reasons))
