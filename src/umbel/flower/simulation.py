"""`flwr.simulation`: `start_simulation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
from umbel.flower.lowered import builder, ignored
from umbel.flower.server import History, refuse, settled
from umbel.runtimes.pool.safety import why_not_fork
from umbel.runtimes.simulate import simulate

__all__ = ["start_simulation"]


def start_simulation(
    *,
    client_fn: Callable[..., Any],
    num_clients: int | None = None,
    clients_ids: list[str] | None = None,
    config: ServerConfig | Mapping[str, Any] | None = None,
    strategy: Any = None,
    server: Any = None,
    client_manager: Any = None,
    client_resources: Mapping[str, Any] | None = None,
    ray_init_args: Mapping[str, Any] | None = None,
    keep_initialised: bool | None = None,
    actor_type: Any = None,
    actor_kwargs: Mapping[str, Any] | None = None,
    actor_scheduling: Any = None,
) -> History:
    """`umbel.simulate`: the clients of a federation on the cores of this machine.

    Raises:
        ConfigError: an argument is wrong, or has no counterpart.
        TooFewClients: a round had too few answers.
    """
    refuse(server=server, client_manager=client_manager, clients_ids=clients_ids)
    if num_clients is None:
        raise ConfigError("num_clients is missing; say how many clients there are")
    ignored(
        {
            "client_resources": client_resources,
            "ray_init_args": ray_init_args,
            "keep_initialised": keep_initialised or None,
            "actor_type": actor_type,
            "actor_kwargs": actor_kwargs,
            "actor_scheduling": actor_scheduling,
        }
    )
    history = simulate(
        builder(client_fn),
        num_clients,
        strategy=strategy,
        config=settled(config),
        # What a script defines cannot be sent to other processes; it can be forked.
        engine="auto" if why_not_fork() is None else "serial",
        progress=True,
    )
    return History.of(history)
