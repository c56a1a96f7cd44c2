"""Transports move packets between a node and a server; they know nothing of what the packets mean."""

from umbel.transports.abstract import Link, Listener, Receiver, Transport
from umbel.transports.choose import transport_for
from umbel.transports.turns import InTurn

__all__ = ["InTurn", "Link", "Listener", "Receiver", "Transport", "transport_for"]
