"""`Tiered`: rounds of clients that are about equally fast, which do not wait for those that are late after all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, final

from umbel.coordinators.abstract import count_of
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.overlapping import Buffer, Overlapping, check_staleness, is_whole, only_without
from umbel.coordinators.population import Named, Population, cohort_key, draw
from umbel.message import is_number, require
from umbel.randomness import generator

REMEMBERED = 100_000
"""Of so many clients, those that took part last, it is known how fast they are."""
Known: TypeAlias = "tuple[float | None, int]"


@final
@dataclass(frozen=True, kw_only=True)
class Tiered:
    """Semi-synchronous: each round asks clients of one tier of speed, and closes without those that are late.

    Clients are sorted by d = t·(1 + m), with t ← (1 - smoothing)·t + smoothing·(the turn's seconds) and m how many of
    their turns in a row failed or came late, and cut into `num_tiers` of equal size; those that never took part are one
    tier more. Each round draws one of the tiers, each with the same chance, and its cohort from it; what is missing
    comes from the next slower ones. The round closes when a share `waits_for` of its cohort has answered. Who is late
    trains on, and its update is folded in the round in which it arrives, scaled by s(τ) = (1 + τ)^-staleness_exponent,
    where τ counts the rounds since it was asked.

    Args:
        num_tiers: at least 1.
        waits_for: above 0 to 1; 1 waits for everybody that was asked.
        smoothing: above 0 to 1; 1 remembers the last turn only.
        staleness_exponent: at least 0; 0 does not discount.
        max_staleness: updates that are staler are thrown away; None takes all.

    Raises:
        ConfigError: an argument is not what it has to be.

    References:
        Z. Chai, A. Ali, S. Zawad, S. Truex, A. Anwar, N. Baracaldo, Y. Zhou, H. Ludwig, F. Yan, Y. Cheng, "TiFL: A
        Tier-based Federated Learning System", HPDC 2020, https://arxiv.org/abs/2001.09249 (its tiers, drawn with equal
        chances).
        M. Elzohairy, M. Chadha, A. Jindal, A. Grafberger, J. Gu, M. Gerndt, O. Abboud, "FedLesScan: Mitigating
        Stragglers in Serverless Federated Learning", IEEE BigData 2022, https://arxiv.org/abs/2211.05739 (the count of
        missed rounds, and late updates that are folded later; tiers of equal size stand in place of its clusters).
    """

    num_tiers: int = 5
    waits_for: float = 0.8
    smoothing: float = 0.5
    staleness_exponent: float = 0.5
    max_staleness: int | None = None
    mixes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(is_whole(self.num_tiers, 1), f"num_tiers must be at least 1, got {self.num_tiers!r}")
        for name in ("waits_for", "smoothing"):
            value = getattr(self, name)
            require(is_number(value) and 0 < value <= 1, f"{name} must be above 0 and at most 1, got {value!r}")
        check_staleness(self.staleness_exponent, self.max_staleness)

    def discount(self, staleness: int) -> float:
        """The factor on an update that comes so many rounds late."""
        return (1.0 + staleness) ** -self.staleness_exponent


@final
class Tiers(Overlapping):
    """Leads rounds of one tier each.

    Args:
        settings: see `Tiered`.
        config: see `ServerConfig`; `fraction_fit` and `min_fit_clients` say how many a round asks.
        population: whom there is to ask.
        grace_s: as in `Overlapping`.
    """

    def __init__(
        self, settings: Tiered, config: ServerConfig, population: Population, *, grace_s: float = 10.0
    ) -> None:
        check_rounds(config)
        super().__init__(settings, config, population, grace_s=grace_s)
        self.settings = settings
        self._known: dict[str, Known] = {}

    @property
    def updates(self) -> int:
        return count_of(self.config.fraction_fit, self.config.min_fit_clients, self.population.size)

    @property
    def places(self) -> int:
        return max(1, self.updates)

    @property
    def _punctual(self) -> bool:
        """Whether somebody who was asked in this round is at work."""
        return any(self._training[client] == self.round + 1 for client in self.there)

    def fill(self) -> tuple[str, ...]:
        """The cohort; another one if nobody of it has answered and nobody works any more."""
        buffer = self.buffer
        if buffer is None or self._punctual:
            return ()
        return self.asked(self._cohort(self.updates, buffer.fills))

    @property
    def complete(self) -> bool:
        buffer = self.buffer
        if buffer is None or not buffer.accepted:
            return False
        return buffer.fresh >= math.ceil(round(self.settings.waits_for * buffer.asked, 9)) or not self._punctual

    def tiers(self) -> list[list[str]]:
        """The clients that took part and can be asked now, the fastest tier first."""
        away = self.excluded
        there = [client for client in self._known if client not in away and client in self.population]
        there.sort(key=lambda client: (self._expected_s(client), client))
        count = min(self.settings.num_tiers, len(there))
        return [there[len(there) * tier // count : len(there) * (tier + 1) // count] for tier in range(count)]

    def _expected_s(self, client: str) -> float:
        seconds, missed = self._known[client]
        return math.inf if seconds is None else seconds * (1 + missed)

    def _cohort(self, wanted: int, times: int) -> list[str]:
        key = cohort_key(self.seed, self.round + 1, times, "fit")
        tiers: list[list[str] | None] = [*self.tiers()]
        if len(self._known) < self.population.size:
            tiers.append(None)  # those that never took part, whom nobody lists
        if not tiers:
            return []
        first = int(generator(cohort_key(self.seed, self.round + 1, times, "tier")).integers(len(tiers)))
        found = list[str]()
        for tier in tiers[first:] + tiers[:first]:
            left = wanted - len(found)
            if tier is not None:
                found += Named(tier).sample(key, left)
            elif left:
                found += draw(self.population, key, left, {*self._known, *self.excluded})
        return found

    def note(self, buffer: Buffer) -> None:
        for receipt in buffer.receipts:
            seconds, missed = self._known.pop(receipt.client, (None, 0))
            if receipt.verdict != "done":
                self._known[receipt.client] = seconds, missed + 1
            else:
                share = self.settings.smoothing if seconds is not None else 1.0
                mean = (1 - share) * (seconds or 0.0) + share * receipt.seconds
                self._known[receipt.client] = mean, missed if receipt.round <= self.round else 0
        for client, version in self._training.items():
            if version == self.round + 1:
                seconds, missed = self._known.pop(client, (None, 0))
                self._known[client] = seconds, missed + 1
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def learned(self) -> dict[str, Any]:
        return {"known": [[client, *known] for client, known in self._known.items()]}

    def restore_learned(self, state: Mapping[str, Any]) -> None:
        self._known = {client: (seconds, missed) for client, seconds, missed in state["known"]}


def check_rounds(config: ServerConfig) -> None:
    """Refuse settings of rounds that wait.

    Raises:
        NotSupported: names the first one and what to use instead.
    """
    only_without(
        config,
        "tiered rounds",
        {
            "arrivals": "clients are drawn from those that are there, without a round_timeout",
            "over_selection": "waits_for says for which share of the cohort a round waits",
            "quorum": "waits_for says for which share of the cohort a round waits",
            "round_timeout": "waits_for says for which share of the cohort a round waits",
            "round_retries": "if all of a cohort fail, another one is asked",
            "selector": "the tiers say who is drawn",
        },
    )
