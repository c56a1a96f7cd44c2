"""A strategy that arrived together with settings of other owners."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
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
