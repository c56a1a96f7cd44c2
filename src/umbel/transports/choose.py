"""The transport that an address names: "tcp://host:port" (the default), "grpc://…", "ws://…".

"wss://…" is "ws://…" that takes no plaintext.

Others register in the entry points `umbel.transports`, under the word that stands before "://".
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from umbel.errors import ConfigError
from umbel.transports.abstract import Transport

GROUP = "umbel.transports"
_HOMES = {
    "tcp": ("umbel.transports.tcp", "TcpTransport", ""),
    "grpc": ("umbel.transports.grpc", "GrpcTransport", "grpc"),
    "ws": ("umbel.transports.websocket", "WebSocketTransport", "websocket"),
}


def transport_for(address: str) -> tuple[Transport, str]:
    """The transport for `address`, and the rest of it.

    Raises:
        ConfigError: there is no such transport, or its library is not installed.
    """
    scheme, separator, rest = address.partition("://")
    options = {"only_tls": True} if scheme == "wss" else {}
    scheme = "ws" if scheme == "wss" else scheme
    if not separator:
        scheme, rest = "tcp", address
    if scheme not in _HOMES:
        return _registered(scheme, address)(), rest
    module, name, extra = _HOMES[scheme]
    try:
        return getattr(importlib.import_module(module), name)(**options), rest
    except ImportError as error:
        raise ConfigError(f"{scheme}:// needs {error.name}; install it with: pip install 'umbel[{extra}]'") from None


def _registered(scheme: str, address: str) -> Any:
    found = {point.name: point for point in entry_points(group=GROUP)}
    if scheme not in found:
        known = ", ".join([*_HOMES, *sorted(found)])
        raise ConfigError(f"transport must be one of {known}, got {scheme!r} in {address!r}")
    return found[scheme].load()


def host_and_port(address: str) -> tuple[str, int]:
    """("host", port) of "host:port"; "[::1]:80" and ":8080" are understood.

    Raises:
        ConfigError: it is no such text.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"an address is host:port with a port from 0 to 65535, got {address!r}; try 127.0.0.1:8080")
    return host.strip("[]") or "0.0.0.0", int(port)
