"""`flwr.server`: `start_server`, `ServerConfig`, `History`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
from umbel.flower.client import at
from umbel.runtimes.history import History as OwnHistory
from umbel.runtimes.history import RoundRecord
from umbel.runtimes.server.start import start_server as start_own

__all__ = ["History", "ServerConfig", "start_server"]
Series: TypeAlias = "dict[str, list[tuple[int, float]]]"


@final
@dataclass
class History:
    """What a run gave, by where it was measured; `own` is Umbel's history, with the model in it."""

    own: OwnHistory
    losses_distributed: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    losses_centralized: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    metrics_distributed_fit: Series = field(default_factory=dict[str, list[tuple[int, float]]])
    metrics_distributed: Series = field(default_factory=dict[str, list[tuple[int, float]]])
    metrics_centralized: Series = field(default_factory=dict[str, list[tuple[int, float]]])

    @classmethod
    def of(cls, own: OwnHistory) -> History:
        """The history that Umbel's tells."""
        found = cls(own)
        for record in own.rounds:
            fit, federated, central = _divided(record)
            for losses, numbers in ((found.losses_distributed, federated), (found.losses_centralized, central)):
                if "loss" in numbers:
                    losses.append((record.round, numbers.pop("loss")))
            for series, numbers in (
                (found.metrics_distributed_fit, fit),
                (found.metrics_distributed, federated),
                (found.metrics_centralized, central),
            ):
                for name, value in numbers.items():
                    series.setdefault(name, []).append((record.round, value))
        return found


def _divided(record: RoundRecord) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """A record's numbers from (training, the clients' evaluation, the central one)."""
    fit, central, plain = dict[str, float](), dict[str, float](), dict[str, float]()
    for name, value in record.metrics.items():
        for prefix, place in (("train_", fit), ("central_", central), ("", plain)):
            if name.startswith(prefix):
                place[name.removeprefix(prefix)] = value
                break
    if record.loss is not None:
        plain["loss"] = record.loss
    # Where clients did not evaluate, Umbel's record has the central numbers under the plain names as well.
    return fit, {} if plain == central else plain, central


def start_server(
    *,
    server_address: str = "[::]:8080",
    config: ServerConfig | Mapping[str, Any] | None = None,
    strategy: Any = None,
    server: Any = None,
    client_manager: Any = None,
    certificates: Any = None,
    grpc_max_message_length: int | None = None,
) -> History:
    """Lead one run over the clients that come, Flower's and Umbel's.

    Raises:
        ConfigError: an argument is wrong, or gRPC is not installed.
        TooFewClients: a round had too few answers.
    """
    refuse(server=server, client_manager=client_manager)
    if certificates is not None:
        raise ConfigError(
            "certificates=... would make this server ask clients for theirs; use umbel.server.start_server("
            "certificates=..., flower='host:port')"
        )
    return History.of(start_own(at(server_address), settled(config), strategy))


def settled(config: ServerConfig | Mapping[str, Any] | None) -> ServerConfig | None:
    """A config, or what older scripts have in its place, a dict."""
    return ServerConfig(**config) if isinstance(config, Mapping) else config


def refuse(**given: Any) -> None:
    """Parts of their server that have no counterpart.

    Raises:
        ConfigError: one was given.
    """
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name}=... has no counterpart here; say what it does in config= and strategy=")
