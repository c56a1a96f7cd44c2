"""`Course`: who leads a simulation, on which clock, and by whom its clients are played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from umbel.coordinators import (
    Asynchronous,
    Buffered,
    Coordinator,
    Everyone,
    FedAsync,
    Rounds,
    ServerConfig,
    Some,
    Streams,
)
from umbel.errors import NotSupported
from umbel.message import require
from umbel.plan import describe
from umbel.runtimes.players import Players, VirtualPlayers
from umbel.runtimes.system import Present, SystemModel, Timeline
from umbel.runtimes.timed import TimedPlayers
from umbel.strategy import Strategy


@final
@dataclass(frozen=True)
class Course:
    """The coordinator of a simulation and, if it has time, its timeline.

    Attributes:
        plan: what the run's plan says of them.
    """

    coordinator: Coordinator
    timeline: Timeline | None = None
    present: Present | None = None
    plan: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(
        cls,
        strategy: Strategy,
        config: ServerConfig,
        everyone: Everyone | Some,
        system: SystemModel | None,
        coordinator: Asynchronous | None,
    ) -> Course:
        """The course of a simulation.

        Raises:
            ConfigError: parts that cannot work together.
        """
        if coordinator is not None:
            _check_asynchronous(strategy, coordinator, system)
        if system is None:
            return cls(Rounds(config, everyone))
        _check(config, system)
        assert config.seed is not None
        timeline = Timeline(system, config.seed)
        present = Present(everyone, system, config.seed, lambda: timeline.now_s)
        if coordinator is None:
            return cls(Rounds(config, present, timed=True), timeline, present, {"system": describe(system)})
        plan = {"system": describe(system), "coordinator": describe(coordinator)}
        return cls(Streams(coordinator, config, present), timeline, present, plan)

    def players(self, virtual: VirtualPlayers, strategy: Strategy) -> Players:
        """Who plays the clients."""
        if self.timeline is None or self.present is None:
            return virtual
        return TimedPlayers(virtual, strategy, self.timeline, self.present)


def _check_asynchronous(strategy: Strategy, coordinator: object, system: object) -> None:
    require(
        isinstance(coordinator, (Buffered, FedAsync)),
        f"coordinator must be one such as Buffered() or FedAsync(), or None for rounds, got {coordinator!r}",
    )
    name = type(coordinator).__name__
    if system is None:
        raise NotSupported(
            f"{name} takes updates as they come, and without time none comes before another; give "
            "system=fl.SystemModel(...)"
        )
    if not strategy.takes_stale:
        raise NotSupported(
            f"{name} folds updates that began from older models, which {type(strategy).__name__} has no room for; use "
            "FedAvg (with any server optimiser) or FedProx, or declare takes_stale = True in a strategy of your own"
        )


def _check(config: ServerConfig, system: object) -> None:
    require(isinstance(system, SystemModel), f"system must be a SystemModel or None, got {system!r}")
    if config.arrivals:
        raise NotSupported(
            "arrivals=True is for devices that check in at a server; with system= the cohort is drawn from those that "
            "are there: leave arrivals out"
        )
