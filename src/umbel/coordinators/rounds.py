"""`Rounds`: the synchronous coordinator. Receipts, losses and times are arguments, asks and verdicts return values."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

from umbel.cohort import Receipts
from umbel.coordinators.abstract import Coordinator, Decision, Ended, Phase, count_of
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.pacing import wanted as wanted_of
from umbel.coordinators.population import Population, cohort_key
from umbel.coordinators.selection import Uniform
from umbel.coordinators.selection.poisson import Poisson
from umbel.coordinators.selection.turns import Turns
from umbel.errors import ConfigError, TooFewClients
from umbel.message import Receipt


@final
@dataclass
class _Open:
    """The open fit phase."""

    round: int
    attempt: int
    wanted: int
    reserve: list[str]
    ends_at_s: float
    waiting: set[str]
    gone: dict[str, float] = field(default_factory=dict[str, float])
    accepted: list[str] = field(default_factory=list[str])
    failures: list[Receipt] = field(default_factory=list[Receipt])
    seats: int = 0
    """With `arrivals`: how many more may be taken in."""


@final
class Rounds(Coordinator):
    """One cohort at a time, closed when enough have answered.

    Args:
        config: see `ServerConfig`; its seed must be set.
        population: whom there is to ask.
        timed: whether time passes. Where it does not (simulation), over-selected clients are asked only in the place
            of ones that failed, which keeps the first by cohort position. Where it does, all over-selected clients are
            asked and the first to answer are kept; clients that fail or are gone are replaced by others of the
            population.
        grace_s: how long a round that has enough answers waits for clients that are gone.
        least_updates: how many answers the run's reducer needs.
    """

    def __init__(
        self,
        config: ServerConfig,
        population: Population,
        *,
        timed: bool = False,
        grace_s: float = 10.0,
        least_updates: int = 1,
    ) -> None:
        super().__init__(config, population)
        self.timed = timed
        self.grace_s = grace_s
        self.least_updates = least_updates
        self.attempt = 0
        self._open: _Open | None = None

    @property
    def arrives(self) -> bool:
        """Whether rounds take in who comes. Where no time passes nobody comes."""
        return self.config.arrivals and self.timed

    @property
    def least_available(self) -> int:
        """How many clients there have to be before a round."""
        if self.arrives:
            return 0
        return max(self.config.min_available_clients or 1, 1)

    def begin(self, now_s: float = 0.0) -> Phase | Ended:
        """The next round's fit phase, or the end.

        Raises:
            TooFewClients: there are fewer clients than `min_available_clients`, or none.
        """
        if self.round >= self.config.num_rounds:
            return Ended("finished")
        config, available = self.config, self.population.size
        number = self.round + 1
        least = self.least_available
        if available < least:
            there = f"match {config.where}" if config.where else "are available"
            raise TooFewClients(number, f"{available} clients {there}, min_available_clients is {least}")
        if self.arrives:
            return self._open_doors(number, now_s)
        if isinstance(config.selector, (Poisson, Turns)):
            return self._each_by_itself(config.selector, number, now_s)
        share = 0.0 if config.arrivals else config.fraction_fit
        wanted = count_of(share, config.min_fit_clients, available)
        if wanted < self.least_updates:
            raise TooFewClients(
                number,
                f"the reducer needs at least {self.least_updates} updates, and the round asks {wanted} of {available} "
                "clients; raise fraction_fit, min_fit_clients or min_available_clients, or withstand fewer bad ones",
            )
        asked = min(available, math.ceil(wanted * (1 + config.over_selection)))
        key = cohort_key(self.seed, number, self.attempt, "fit")
        cohort = self.drawn(key, asked)
        if not cohort and not isinstance(config.selector, Uniform):
            raise TooFewClients(number, f"selector={config.selector!r} draws none of {available} clients; look at it")
        first, reserve = cohort[:wanted], cohort[wanted:]
        if self.timed:
            # Whoever else there is comes after the cohort, so that time changes nothing about who is in it.
            others = self.drawn(key, min(available, 2 * asked))
            first, reserve = cohort, [client for client in others if client not in set(cohort)][:asked]
        ends = math.inf if config.round_timeout is None or not self.timed else now_s + config.round_timeout
        self._open = _Open(number, self.attempt, wanted, reserve, ends, set(first))
        return Phase(number, "fit", tuple(first), self.attempt, ends)

    def _each_by_itself(self, selector: Poisson | Turns, number: int, now_s: float) -> Phase:
        """A cohort of as many as the draw gives, which may be nobody."""
        config = self.config
        if isinstance(selector, Turns):
            cohort = selector.cohort(self.population, number)
        else:
            key = cohort_key(self.seed, number, self.attempt, "fit")
            cohort = selector.cohort(self.population, key, config.fraction_fit)
        ends = math.inf if config.round_timeout is None or not self.timed else now_s + config.round_timeout
        self._open = _Open(number, self.attempt, len(cohort), [], ends, set(cohort))
        return Phase(number, "fit", tuple(cohort), self.attempt, ends)

    def _open_doors(self, number: int, now_s: float) -> Phase:
        """A round that takes in who is there, and then who comes."""
        wanted, asked = wanted_of(self.config)
        first = self.population.sample(cohort_key(self.seed, number, self.attempt, "fit"), asked)
        assert self.config.round_timeout is not None
        ends = now_s + self.config.round_timeout
        self._open = _Open(number, self.attempt, wanted, [], ends, set(first), seats=asked - len(first))
        return Phase(number, "fit", tuple(first), self.attempt, ends)

    @property
    def seats(self) -> int:
        """How many more devices the open round takes in."""
        return 0 if self._open is None else self._open.seats

    def arrived(self, client: str) -> Decision:
        """Take note that a device has come; it is asked if the open round has a seat for it and has not had it yet."""
        phase = self._open
        if phase is None or phase.seats < 1 or client in phase.waiting or client in phase.accepted:
            return Decision(False)
        if any(receipt.client == client for receipt in phase.failures):
            return Decision(False)
        phase.seats -= 1
        phase.waiting.add(client)
        return Decision(False, (client,))

    def receipt(self, receipt: Receipt) -> Decision:
        """Take note of an answer. Late ones, of another round or attempt or asked twice, are dropped."""
        phase = self._open
        if phase is None or (receipt.round, receipt.attempt) != (phase.round, phase.attempt):
            return Decision(False)
        if receipt.client not in phase.waiting:
            return Decision(False)
        phase.waiting.discard(receipt.client)
        phase.gone.pop(receipt.client, None)
        if receipt.verdict == "done":
            accept = len(phase.accepted) < phase.wanted
            if accept:
                phase.accepted.append(receipt.client)
            return Decision(accept, close=self._complete(phase))
        phase.failures.append(receipt)
        phase.seats += self.arrives
        instead = self._replacement(phase) if self.config.accept_failures else ()
        return Decision(False, instead, self._complete(phase))

    def receipts(self, receipts: Receipts, order: Mapping[str, int]) -> tuple[str, ...]:
        phase = self._open
        fits = phase is not None and len(phase.accepted) + len(order) <= phase.wanted
        if phase is None or not fits or receipts.done < len(receipts) or set(order) != phase.waiting:
            return super().receipts(receipts, order)
        phase.accepted += order
        phase.waiting.clear()
        phase.gone.clear()
        return ()

    def _replacement(self, phase: _Open) -> tuple[str, ...]:
        instead = tuple(phase.reserve[:1])
        del phase.reserve[: len(instead)]
        phase.waiting.update(instead)
        return instead

    def lost(self, client: str, now_s: float) -> Decision:
        """Take note that the link to a client is gone. Another is asked in its place, if there is one.

        The client stays in the cohort: if it comes back with its answer in time, that counts. Devices that check in
        come and go; they are not given up before the deadline.
        """
        phase = None if self.arrives else self._open
        if phase is None or client not in phase.waiting or client in phase.gone:
            return Decision(False)
        phase.gone[client] = now_s
        return Decision(False, self._replacement(phase))

    def back(self, client: str) -> bool:
        """Take note that a client is there again; says whether it is still to answer."""
        phase = self._open
        if phase is None:
            return False
        phase.gone.pop(client, None)
        return client in phase.waiting

    def _complete(self, phase: _Open) -> bool:
        if phase.failures and not self.config.accept_failures:
            return True
        return len(phase.accepted) >= phase.wanted or not (phase.waiting or self.arrives)

    @property
    def looks_at_s(self) -> float:
        """When to call `tick` next."""
        phase = self._open
        if phase is None:
            return math.inf
        return min(phase.ends_at_s, self._gives_up_at_s(phase))

    def _gives_up_at_s(self, phase: _Open) -> float:
        """When to go on without those that are gone: only if all others have answered, and enough of them."""
        if not phase.gone or phase.waiting - phase.gone.keys() or len(phase.accepted) < self._needed(phase):
            return math.inf
        return max(phase.gone.values()) + self.grace_s

    def _needed(self, phase: _Open) -> int:
        least = 0 if isinstance(self.config.selector, (Poisson, Turns)) else self.least_updates
        return max(least, math.ceil(round(self.config.quorum * phase.wanted, 9)))

    @property
    def needed(self) -> int:
        """How many clients of the open round have to be in it, or it is thrown away."""
        phase = self._open
        if phase is None:
            return 0
        return self._needed(phase) if self.config.accept_failures else phase.wanted

    def tick(self, now_s: float) -> bool:
        """Whether the open round has to close because its time is up."""
        return self._open is not None and now_s >= self.looks_at_s

    def close(self, *, examples: float = 1.0) -> Literal["step", "retry"]:
        """Close the open round: take the step, or try again with a new cohort.

        Args:
            examples: how many examples the accepted updates hold together.

        Raises:
            TooFewClients: too few answered and no retries are left.
        """
        phase, config = self._open, self.config
        if phase is None:
            raise ConfigError("there is no open round to close")
        self._open = None
        needed = self._needed(phase)
        enough = len(phase.accepted) >= needed and (examples > 0 or not needed)
        if enough and (config.accept_failures or not phase.failures):
            self.attempt = 0
            return "step"
        if phase.attempt < config.round_retries:
            self.attempt = phase.attempt + 1
            return "retry"
        raise TooFewClients(phase.round, _too_few(phase, needed, config, examples))

    def fill(self) -> tuple[str, ...]:
        return ()

    @property
    def excluded(self) -> tuple[str, ...]:
        return ()

    def scale(self, version: int) -> float:
        return 1.0

    def mark(self) -> Any:
        return copy.deepcopy(self._open)

    def reset(self, mark: Any) -> None:
        self._open = copy.deepcopy(mark)

    def own_state(self) -> dict[str, Any]:
        return {}

    def restore_own(self, state: Mapping[str, Any]) -> None:
        return None


def _too_few(phase: _Open, needed: int, config: ServerConfig, examples: float) -> str:
    asked = len(phase.accepted) + len(phase.failures) + len(phase.waiting)
    if phase.failures and not config.accept_failures:
        reason = f"{len(phase.failures)} of {asked} clients failed and accept_failures is False"
    elif len(phase.accepted) >= needed:
        return (
            f"none of the {len(phase.accepted)} clients that answered has any examples that it trained on, as where no "
            "step was taken: look at epochs and max_steps, which may be 0, and at how data are split"
        )
    else:
        reason = f"{len(phase.accepted)} of {asked} clients answered, {needed} are needed"
    if phase.waiting and math.isfinite(phase.ends_at_s):
        late = f"{len(phase.waiting)} had not answered at the round's deadline, round_timeout={config.round_timeout!r}"
        return f"{reason}; {late}. Raise round_timeout, lower quorum or raise round_retries"
    if phase.failures:
        first = phase.failures[0]
        reason += f"; client {first.client}: {first.reason}"
    return f"{reason}. Mend the client, lower quorum or raise round_retries"
