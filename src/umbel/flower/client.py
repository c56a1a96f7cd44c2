"""`flwr.client`: `NumPyClient`, `Client`, `start_client`, `start_numpy_client`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel.clients import NumPyClient
from umbel.errors import ConfigError
from umbel.flower.lowered import Client, builder, ignored, lowered
from umbel.runtimes.node.start import start_client as start_node

__all__ = ["Client", "NumPyClient", "start_client", "start_numpy_client"]


def start_client(
    *,
    server_address: str,
    client: Any = None,
    client_fn: Callable[..., Any] | None = None,
    root_certificates: bytes | str | None = None,
    max_wait_time: float | None = None,
    authentication_keys: Any = None,
    grpc_max_message_length: int | None = None,
    insecure: bool | None = None,
    transport: str | None = None,
    max_retries: int | None = None,
) -> None:
    """Take part in a run of an Umbel server's, over gRPC.

    Raises:
        ConfigError: an argument is wrong, or gRPC is not installed.
        LinkError: the server was not found within `max_wait_time`, or will not have this client.
    """
    if authentication_keys is not None:
        raise ConfigError("authentication_keys are not used here; nodes show certificates: umbel.client.start_client")
    ignored({"transport": transport, "max_retries": max_retries})
    start_node(
        at(server_address),
        None if client is None else lowered(client),
        client_fn=None if client_fn is None else builder(client_fn),
        root_certificates=root_certificates,
        give_up_s=max_wait_time,
    )


def start_numpy_client(*, server_address: str, client: Any, **more: Any) -> None:
    """`start_client` with a `NumPyClient`."""
    start_client(server_address=server_address, client=client, **more)


def at(address: str) -> str:
    """The address with the transport that both kinds of clients speak."""
    return address if "://" in address else f"grpc://{address}"
