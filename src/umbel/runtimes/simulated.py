"""`Course`: who leads a simulation, on which clock, and by whom its clients are played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from umbel.coordinators import Coordinator, Overlap, Registered, Rounds, Secure, ServerConfig, leader
from umbel.errors import NotSupported
from umbel.message import require
from umbel.plan import describe
from umbel.runtimes import asynchronous, enough
from umbel.runtimes.players import Players, VirtualPlayers
from umbel.runtimes.securing import check_secure, played
from umbel.runtimes.system import Present, SystemModel, Timeline, Trace
from umbel.runtimes.timed import TimedPlayers
from umbel.strategy import Strategy


@final
@dataclass(frozen=True)
class Course:
    """The coordinator of a simulation and, if it has time, its timeline.

    Attributes:
        plan: what the run's plan says of them.
        secure: how rounds are secured, if they are.
    """

    coordinator: Coordinator
    timeline: Timeline | None = None
    present: Present | None = None
    plan: Mapping[str, Any] = field(default_factory=dict[str, Any])
    secure: Secure | None = None

    @classmethod
    def of(
        cls,
        strategy: Strategy,
        config: ServerConfig,
        everyone: Registered,
        system: SystemModel | None,
        coordinator: Overlap | Secure | None,
    ) -> Course:
        """The course of a simulation.

        Raises:
            ConfigError: parts that cannot work together.
        """
        if isinstance(coordinator, Secure):
            enough.check_secure_cohort(coordinator, config, everyone.size)
            return cls(Rounds(config, everyone), plan={"coordinator": describe(coordinator)}, secure=coordinator)
        if coordinator is not None:
            _check_asynchronous(strategy, coordinator, system)
        if system is None:
            enough.check_cohort(strategy, config, everyone.size)
            return cls(Rounds(config, everyone, least_updates=strategy.reducer.least_updates))
        _check(config, system)
        assert config.seed is not None
        timeline = Timeline(system, config.seed)
        present = Present(everyone, system, config.seed, timeline.clock)
        if coordinator is None:
            enough.check_cohort(strategy, config, everyone.size)
            rounds = Rounds(config, present, timed=True, least_updates=strategy.reducer.least_updates)
            return cls(rounds, timeline, present, {"system": describe(system)})
        plan = {"system": describe(system), "coordinator": describe(coordinator)}
        return cls(leader(coordinator, config, present), timeline, present, plan)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set the timeline to where a checkpoint was written."""
        if self.timeline is not None:
            self.timeline.restore(state)

    def notes(self, num_clients: int) -> list[str]:
        """What to say of its parts before the first round."""
        availability = None if self.timeline is None else self.timeline.system.availability
        return availability.notes(num_clients) if isinstance(availability, Trace) else []

    def clients(self, strategy: Strategy) -> Strategy:
        """The strategy as clients play it.

        Raises:
            NotSupported: it cannot be secured, or the package `cryptography` is missing.
        """
        return played(strategy, self.secure)

    def players(self, virtual: VirtualPlayers, strategy: Strategy) -> Players:
        """Who plays the clients."""
        if self.secure is not None and self.secure.secure_sum is not None:
            from umbel.runtimes.encrypted import EncryptedPlayers

            return EncryptedPlayers(virtual, strategy, self.secure)
        if self.secure is not None:
            from umbel.runtimes.secure import SecurePlayers

            return SecurePlayers(virtual, strategy, self.secure)
        if self.timeline is None or self.present is None:
            return virtual
        return TimedPlayers(virtual, strategy, self.timeline, self.present, self.coordinator.draws)


def _check_asynchronous(strategy: Strategy, coordinator: object, system: object) -> None:
    wanted = asynchronous.is_one(coordinator)
    if system is None:
        raise NotSupported(
            f"{type(wanted).__name__} takes updates as they come, and without time none comes before another; give "
            "system=fl.SystemModel(...)"
        )
    asynchronous.check_strategy(strategy, wanted)


def check_simulated(settings: Secure, config: ServerConfig, *, system: object, engine: str, per_client: bool) -> None:
    """Refuse what secure rounds cannot have in a simulation.

    Raises:
        NotSupported: names the first such argument.
    """
    check_secure(settings, config, per_client=per_client)
    if system is not None:
        raise NotSupported("Secure() has no time in a simulation; leave system out")
    if engine not in ("auto", "serial", "pool"):
        raise NotSupported(f'Secure() masks client by client, got engine={engine!r}; use "serial" or "pool"')


def _check(config: ServerConfig, system: object) -> None:
    require(isinstance(system, SystemModel), f"system must be a SystemModel or None, got {system!r}")
    if config.arrivals:
        raise NotSupported(
            "arrivals=True is for devices that check in at a server; with system= the cohort is drawn from those that "
            "are there: leave arrivals out"
        )
