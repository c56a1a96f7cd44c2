"""A strategy that arrived together with settings of other owners."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
from umbel.strategies import FedAvg
from umbel.strategy import Strategy


@final
@dataclass(frozen=True)
class Routed:
    """A strategy, fields of `ServerConfig` and arguments of `simulate`, as known spellings give them in one call."""

    strategy: Strategy
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    run: Mapping[str, Any] = field(default_factory=dict[str, Any])


def merged_config(config: ServerConfig | None, routed: Mapping[str, Any]) -> ServerConfig:
    """`config` with the routed fields.

    Raises:
        ConfigError: a field was given in both places with different values.
    """
    base = config or ServerConfig()
    for name, value in routed.items():
        default, present = getattr(ServerConfig(), name), getattr(base, name)
        if present not in (default, value):
            raise ConfigError(
                f"{name} was given twice: {present!r} in ServerConfig and {value!r} in the strategy; drop one"
            )
    return dataclasses.replace(base, **routed)


def settled(
    strategy: Strategy | Routed | None, config: ServerConfig | None
) -> tuple[Strategy, ServerConfig, Mapping[str, Any]]:
    """(strategy, config, the run's arguments that came with the strategy), with defaults filled in.

    Raises:
        ConfigError: it is no strategy, or a field was given twice.
    """
    if config is not None and not isinstance(config, ServerConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"config must be a ServerConfig or None, got {config!r}; try fl.ServerConfig(num_rounds=3)")
    if isinstance(strategy, Routed):
        return strategy.strategy, merged_config(config, strategy.config), strategy.run
    strategy = FedAvg() if strategy is None else strategy
    if not isinstance(strategy, Strategy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"strategy must be a Strategy such as FedAvg(), got {strategy!r}")
    return strategy, config or ServerConfig(), {}


def once(name: str, argument: Any, routed: Mapping[str, Any]) -> Any:
    """The one place where an argument was given.

    Raises:
        ConfigError: it was given to the run and with the strategy.
    """
    if argument is not None and name in routed:
        raise ConfigError(f"{name} was given twice: with the run and with the strategy; drop one")
    return routed.get(name, argument)
