"""`Oort`: clients that help most in the time they take."""

from __future__ import annotations

import heapq
import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from umbel.coordinators.population import Either, Population
from umbel.coordinators.selection.chances import chances_by_name
from umbel.coordinators.selection.experience import Experience, Seen, columns
from umbel.coordinators.selection.selector import Selector, check_learner
from umbel.coordinators.selection.uniform import Uniform
from umbel.message import Receipt, is_number, require
from umbel.randomness import derive, generator

LARGEST = 1e100


@final
@dataclass(frozen=True, kw_only=True)
class Oort(Selector):
    """Ask clients with a large loss on many examples that answer soon, and now and then new ones.

    In round R a client that took part in round L is worth

        U = min(|B|·loss, clip) / clip + sqrt(0.1·ln R / L)        loss as it was reported, |B| its examples
        U·(T/t)^alpha                                              if its answer took t > T

    where `clip` is the `clip_share` quantile of |B|·loss. A share ε = max(least_exploration, exploration·decay^(R-1))
    of the cohort is new: drawn by `explore` from those that were never asked. The rest is drawn with chances in
    proportion to U from those with at least `cutoff` of the worth that is just needed. Clients that took part
    `most_picks` times are asked only where nobody else is left. Time is simulated seconds, or seconds that the server
    measures from asking to answering; where a simulation has no time, t plays no part.

    T is the `pace` quantile of the times that are known. Whenever the |B|·loss of a window of rounds adds up to less
    than in the window before, it is raised by `pace_step`, so that slower clients are asked, too.

    What differs from the paper: |B|·sqrt(mean of loss²) is over single examples there, and a client reports its mean
    loss, which makes it |B|·loss, never more than the paper's; a client that reports the root of its mean squared loss
    makes it equal with `metric=`. T and its step are quantiles, not seconds, so they need no knowledge of the fleet.
    New clients are drawn by speed there, if devices tell it: `explore=Weighted(speed)`. Clients that were asked and
    failed count as of no use until they are asked again.

    It cannot be combined with `Buffered` and `FedAsync`, which ask one client at a time.

    Args:
        exploration, least_exploration, decay: of ε, each 0 to 1.
        alpha: penalty of slow clients, at least 0; 0 leaves time out.
        pace, pace_step: of T, each 0 to 1.
        pace_window: rounds in a window, at least 1.
        cutoff: 0 to 1.
        clip_share: 0 to 1; one client that reports an enormous loss does not win for ever.
        most_picks: None sets no limit; else at least 1.
        explore: how new clients are drawn.
        metric: the metric of `fit` that is the loss.
        remembers: how many clients are remembered, at least 1; those asked longest ago are forgotten first, and new
            again.

    Raises:
        ConfigError: an argument is not what it has to be.

    References:
        F. Lai, X. Zhu, H. V. Madhyastha, M. Chowdhury, "Oort: Efficient Federated Learning via Guided Participant
        Selection", OSDI 2021, https://arxiv.org/abs/2010.06081
    """

    exploration: float = 0.9
    least_exploration: float = 0.2
    decay: float = 0.98
    alpha: float = 2.0
    pace: float = 0.5
    pace_step: float = 0.1
    pace_window: int = 20
    cutoff: float = 0.95
    clip_share: float = 0.95
    most_picks: int | None = None
    explore: Selector = field(default_factory=Uniform)
    metric: str = "loss"
    remembers: int = 10_000

    def __post_init__(self) -> None:
        for name in ("exploration", "least_exploration", "decay", "pace", "pace_step", "cutoff", "clip_share"):
            value = getattr(self, name)
            require(is_number(value) and 0 <= value <= 1, f"{name} must be from 0 to 1, got {value!r}")
        alpha: object = self.alpha
        require(is_number(alpha) and 0 <= self.alpha < math.inf, f"alpha must be at least 0, got {alpha!r}")
        for name in ("pace_window", "most_picks"):
            value = getattr(self, name)
            fine = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(fine or (value is None and name == "most_picks"), f"{name} must be at least 1, got {value!r}")
        check_learner("explore", self.explore, self.metric, self.remembers)

    @property
    def hears(self) -> str:
        return self.metric

    def check(self, population: Population) -> None:
        self.explore.check(population)

    def share(self, round: int) -> float:
        """ε of a round: the share of its cohort that is new."""
        return max(self.least_exploration, self.exploration * self.decay ** (round - 1))

    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        seen = {client: one for client, one in experience.clients.items() if client not in excluded}
        share = self.share(experience.round + 1)
        # Rounded at random, so that a small cohort has its share of new clients over the rounds.
        new = min(int(share * count + generator(derive(key, "rounded")).random()), count)
        worth = self.worth(experience, seen)
        best = self._best(population, worth, count - new, key)
        explored = self._new(population, key, count - len(best), experience, excluded)
        if len(best) + len(explored) < count:
            best = self._best(population, worth, count - len(explored), key)
        found = [*best, *explored]
        # Who was asked often comes last, longest ago first.
        rest = (client for client in seen if client not in worth and client in population)
        return [*found, *(client for client, _ in zip(rest, range(count - len(found)), strict=False))]

    def _new(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str]
    ) -> list[str]:
        known = experience.clients
        return self.explore.draw(population, derive(key, "new"), count, experience, Either(known, excluded))

    def worth(self, experience: Experience, seen: dict[str, Seen]) -> dict[str, float]:
        """U of each client that was asked, and not too often."""
        loss, examples, took_s, last, picks = columns(seen.values())
        with np.errstate(over="ignore"):
            useful = np.where(np.isnan(loss), 0.0, np.minimum(examples * np.abs(loss), LARGEST))
        clip = quantile(useful, self.clip_share) or 1.0
        stale = 0.1 * math.log(experience.round + 1) / np.maximum(last, 1.0)
        worth = np.minimum(useful, clip) / clip + np.sqrt(stale)
        preferred_s = quantile(took_s[~np.isnan(took_s)], experience.numbers.get("pace", self.pace))
        slow = np.flatnonzero(took_s > preferred_s)
        # Python's power, which NumPy's differs from in the last bit.
        worth[slow] *= [share**self.alpha for share in (preferred_s / took_s[slow]).tolist()]
        most = math.inf if self.most_picks is None else self.most_picks
        asked = zip(seen, worth.tolist(), (picks < most).tolist(), strict=True)
        return {client: value for client, value, counts in asked if counts}

    def _best(self, population: Population, worth: dict[str, float], count: int, key: int) -> list[str]:
        """Clients that are there, in proportion to their worth, of those worth nearly as much as is needed."""
        if count < 1:
            return []
        there, least = list[str](), -math.inf
        for minus, client in sorted((-value, client) for client, value in worth.items()):
            if -minus < least:
                break
            if client in population:
                there.append(client)
                if len(there) == count:
                    least = self.cutoff * -minus
        chance_of = chances_by_name(derive(key, "best"))
        return heapq.nsmallest(count, there, key=lambda client: -math.log(chance_of(client)) / max(worth[client], 1e-9))

    def learn(self, experience: Experience, round: int, receipts: Sequence[Receipt]) -> Experience:
        after = experience.after(round, receipts, self.remembers)
        answered = {receipt.client for receipt in receipts if receipt.verdict == "done"}
        gained = math.fsum(use(after.clients[client]) for client in answered if client in after.clients)
        return replace(after, numbers=self._paced(experience.numbers, round, gained))

    def _paced(self, numbers: Any, round: int, gained: float) -> dict[str, Any]:
        """The pace after a round that gained so much."""
        pace, window = numbers.get("pace", self.pace), self.pace_window
        gains = [*numbers.get("gains", []), gained][-2 * window :]
        if round % window == 0 and len(gains) == 2 * window and sum(gains[:window]) > sum(gains[window:]):
            pace = min(1.0, pace + self.pace_step)
        return {"pace": pace, "gains": gains}


def use(seen: Seen) -> float:
    """|B|·loss; 0 for a client that never reported a loss. What is out of all proportion still adds up to a number."""
    return 0.0 if seen.loss is None else min(seen.examples * abs(seen.loss), LARGEST)


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that a share of them does not exceed; 0 if there is none."""
    found = np.asarray(values if isinstance(values, np.ndarray) else list(values), np.float64)
    if not len(found):
        return 0.0
    place = max(math.ceil(round(share * len(found), 9)) - 1, 0)
    return float(np.partition(found, place)[place])
