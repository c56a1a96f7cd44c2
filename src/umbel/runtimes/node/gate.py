"""`Gate`: a policy at work in a node. It looks at the machine, counts the day's rounds, and lets through or not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, final

from umbel.coordinators.selection.turns import Turns
from umbel.message import require
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.conditions import Conditions, read_conditions
from umbel.runtimes.node.promises import epsilon_of, is_own_noise, key_of, separation_of
from umbel.runtimes.node.rules import IDLE_LOAD, Policy
from umbel.runtimes.node.vault import is_later_step


def reporter(policy: Policy | None) -> Callable[[], Awaitable[Mapping[str, Any]]]:
    """What a device that checks in says about itself: how the machine is, and whether its owner lets it work now."""

    async def report() -> Mapping[str, Any]:
        facts = await asyncio.get_running_loop().run_in_executor(None, read_conditions)
        idle = None if facts.load is None else facts.load <= IDLE_LOAD
        told = {"conditions": {"idle": idle, "charging": facts.charging, "unmetered": facts.unmetered}}
        willing = policy is None or policy.why_not_now(facts) is None
        return {**told, "willing": willing}

    return report


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
class Gate:
    """Asks the policy before anything is done for a server, and before anything leaves.

    Args:
        done_today: how many rounds were worked on today, over restarts; what this process did is counted here as well.
        purse: keeps what runs have promised, for a policy with an `epsilon_total`; None has nowhere to.
        conditions: what the machine is doing; called in a thread, as it may take a while.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        done_today: Callable[[], int] = lambda: 0,
        purse: Purse | None = None,
        conditions: Callable[[], Conditions] = read_conditions,
    ) -> None:
        require(
            purse is not None or policy.privacy.epsilon_total is None,
            "the policy's privacy.epsilon_total needs a node that keeps what was promised over restarts: umbel node",
        )
        self.policy, self._purse = policy, purse
        self._costs: dict[str, tuple[str, float]] = {}
        self._rounds: dict[str, int] = {}
        self._released: dict[str, int] = {}
        self._turns: dict[str, Turns] = {}
        self._done_today, self._conditions = done_today, conditions
        self._date, self._count = "", 0
        self._fitted: set[tuple[str, int]] = set()

    def why_not_plan(self, run: str, plan: Any) -> str | None:
        """Why a run is not taken part in; nothing is spent yet."""
        reason = self.policy.why_not_plan(plan)
        if reason is None and self.policy.privacy.promises:
            self._rounds[run] = plan["rounds"]
            separation = separation_of(plan)
            if separation is not None:
                self._turns[run] = Turns(separation)
            if is_own_noise(plan):
                self._released.setdefault(run, 0 if self._purse is None else self._purse.released(run))
        if reason is None and self.policy.privacy.epsilon_total is not None:
            cost = epsilon_of(plan)
            assert cost is not None  # the policy refuses plans that do not say it
            self._costs[run] = key_of(run, plan), cost
            reason = self._why_not_spend(run)
        return reason

    def _why_not_spend(self, run: str) -> str | None:
        key, cost = self._costs.get(run, ("", math.inf))
        assert self._purse is not None
        spent = sum(epsilon for other, epsilon in self._purse.promised().items() if other != key)
        return self.policy.why_not_spend(cost, spent)

    def _why_not_promised(self, letter: Letter) -> str | None:
        """Why an ask is more than was promised; if it is not, the promise is kept before anything is done for it."""
        privacy = self.policy.privacy
        if not privacy.promises:
            return None
        if letter.kind != "fit":
            return f"the plan promises differential privacy, and what {letter.kind!r} asks for is in no promise"
        rounds = self._rounds.get(letter.run, 0)
        if letter.round > rounds:
            return f"the plan promises differential privacy for {rounds} rounds, this is round {letter.round}"
        turns = self._turns.get(letter.run)
        if turns is not None and not turns.has(letter.client, letter.round):
            return (
                f"the plan promises a turn every {turns.every} rounds, and round {letter.round} is none of this node's"
            )
        if privacy.epsilon_total is None:
            return self._why_not_release(letter, rounds)
        reason = self._why_not_spend(letter.run) or self._why_not_release(letter, rounds)
        if reason is None:
            assert self._purse is not None
            key, cost = self._costs[letter.run]
            # A run that goes on with more rounds promises more.
            if self._purse.promised().get(key, 0.0) < cost:
                self._purse.promise(key, cost)
        return reason

    def _why_not_release(self, letter: Letter, rounds: int) -> str | None:
        """Why an answer would be one release too many, where it is the node's own noise that makes it one.

        Who is asked again and again for one round could average the noise away, so it is answers that count. One that
        is kept and sent once more is not worked out again, and is not looked at here.
        """
        released = self._released.get(letter.run)
        if released is None or is_later_step(letter.own):
            return None
        if released >= rounds:
            return (
                f"the plan promises differential privacy for {rounds} releases, and this node has given so many: a "
                "round that is begun again is one more"
            )
        if self._purse is not None:
            self._purse.release(letter.run)
        self._released[letter.run] = released + 1
        return None

    async def why_not_ask(self, letter: Letter) -> str | None:
        """Why an ask is not worked on; if it is, it counts from now on."""
        facts = await asyncio.get_running_loop().run_in_executor(None, self._conditions)
        if facts.date != self._date:
            self._date, self._count, self._fitted = facts.date, 0, set()
        reason = self.policy.why_not_now(facts) or self._why_not_promised(letter)
        if reason is not None or not self._is_new(letter):
            return reason
        reason = self.policy.why_not_round(max(self._done_today(), self._count))
        if reason is None:
            self._count += 1
            if letter.kind == "fit":
                self._fitted.add((letter.run, letter.round))
        return reason

    def _is_new(self, letter: Letter) -> bool:
        """Whether an ask counts as a round.

        All do but the one evaluation of what was fitted in the round before it, and all steps of a secure round but the
        first, without which the others are refused.
        """
        if is_later_step(letter.own):
            return False
        place = (letter.run, letter.round)
        if letter.kind != "evaluate" or place not in self._fitted:
            return True
        self._fitted.remove(place)
        return False
