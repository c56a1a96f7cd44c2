"""Who leads a run in which turns outlive the step in which they began: the value that says how, and its coordinator."""

from __future__ import annotations

from typing import TypeAlias

from umbel.coordinators.buffered import Asynchronous, Streams, check_config
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.overlapping import Overlapping
from umbel.coordinators.population import Population
from umbel.coordinators.tiered import Tiered, Tiers, check_rounds

Overlap: TypeAlias = Asynchronous | Tiered


def leader(settings: Overlap, config: ServerConfig, population: Population) -> Overlapping:
    """The coordinator for these settings.

    Raises:
        NotSupported: as `check_for`.
    """
    if isinstance(settings, Tiered):
        return Tiers(settings, config, population)
    return Streams(settings, config, population)


def check_for(settings: Overlap, config: ServerConfig) -> None:
    """Refuse what has no meaning in such a run.

    Raises:
        NotSupported: names the first such setting of `config`.
    """
    (check_rounds if isinstance(settings, Tiered) else check_config)(config)
