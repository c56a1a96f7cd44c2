"""`Spending`: what runs have promised of differential privacy, and what was released, over the life of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, cast, final

from umbel.runtimes.mail import Letter
from umbel.runtimes.node.promises import epsilon_of, is_own_noise, key_of
from umbel.runtimes.node.vault import is_light_step


class Purse(Protocol):
    """Where promises of differential privacy are kept, for the life of the data."""

    def promised(self) -> Mapping[str, float]:
        """Run and plan → the ε that was promised."""
        ...

    def promise(self, key: str, epsilon: float) -> None:
        """Keep it, durably: no work is done for the run before."""
        ...

    def released(self, run: str) -> int:
        """How many answers were worked out with the node's own noise."""
        ...

    def release(self, run: str) -> None:
        """Keep that one more will be, durably."""
        ...


@final
class Spending:
    """Counts for each run, whatever the owner's policy asks for now: a later one may have a budget for the same data.

    Args:
        purse: where it is kept; None counts releases in this process alone, and no promises.
    """

    def __init__(self, purse: Purse | None) -> None:
        self._purse = purse
        self._costs: dict[str, tuple[str, float]] = {}
        self._released: dict[str, int] = {}

    def note(self, run: str, plan: object) -> None:
        """Remember what a plan promises, for when it is worked on. Nothing is spent yet."""
        if not isinstance(plan, Mapping):
            return
        known = cast("Mapping[str, Any]", plan)
        cost = epsilon_of(known)
        if cost is not None:
            self._costs[run] = key_of(run, known), cost  # at once, as the run may be asked meanwhile
        else:
            self._costs.pop(run, None)
        if is_own_noise(known):
            self._released.setdefault(run, 0 if self._purse is None else self._purse.released(run))

    def count(self, letter: Letter) -> None:
        """Count an ask that is worked on, and that nothing speaks against."""
        self.spend(letter.run)
        if letter.kind == "fit" and self.released(letter) is not None:
            self.release(letter.run)

    def cost(self, run: str) -> tuple[float, float]:
        """The ε that a run promises, and that of all others together."""
        key, cost = self._costs.get(run, ("", math.inf))
        promised = dict[str, float]() if self._purse is None else self._purse.promised()
        return cost, sum(epsilon for other, epsilon in promised.items() if other != key)

    def spend(self, run: str) -> None:
        """Keep what a run promises, if it is not kept yet. More rounds of it promise more."""
        key, cost = self._costs.get(run, ("", 0.0))
        if cost and self._purse is not None and self._purse.promised().get(key, 0.0) < cost:
            self._purse.promise(key, cost)

    def released(self, letter: Letter) -> int | None:
        """How many answers were released before this one; None if it is not the node's noise that makes it a release.

        Who is asked again and again for one round could average the noise away, so it is answers that count. One that
        is kept and sent once more is not worked out again, and is not looked at here.
        """
        return None if is_light_step(letter) else self._released.get(letter.run)

    def release(self, run: str) -> None:
        """Keep that one more answer will be worked out."""
        if self._purse is not None:
            self._purse.release(run)
        self._released[run] += 1
