"""`Gate`: a policy at work in a node. It looks at the machine, counts the day's rounds, and lets through or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, final

from umbel.coordinators.selection.turns import Turns
from umbel.message import require
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.conditions import Conditions, read_conditions
from umbel.runtimes.node.promises import separation_of
from umbel.runtimes.node.rules import IDLE_LOAD, Policy
from umbel.runtimes.node.spending import Purse, Spending
from umbel.runtimes.node.vault import is_light_step


def reporter(policy: Policy | None) -> Callable[[], Awaitable[Mapping[str, Any]]]:
    """What a device that checks in says about itself: how the machine is, and whether its owner lets it work now."""

    async def report() -> Mapping[str, Any]:
        facts = await asyncio.get_running_loop().run_in_executor(None, read_conditions)
        idle = None if facts.load is None else facts.load <= IDLE_LOAD
        told = {"conditions": {"idle": idle, "charging": facts.charging, "unmetered": facts.unmetered}}
        willing = policy is None or policy.why_not_now(facts) is None
        return {**told, "willing": willing}

    return report


def why_not_addressed(letter: Letter, name: str) -> str | None:
    """Why an ask is for somebody else: as whom a node works decides when its turn is, and what it draws."""
    return None if letter.client == name else f"the ask is for client {letter.client!r:.100}, and this node is {name!r}"


@final
class Gate:
    """Asks the policy before anything is done for a server, and before anything leaves.

    Args:
        done_today: how many rounds were worked on today, over restarts; what this process did is counted here as well.
        purse: keeps what runs have promised, whatever the policy asks for now: one may have an `epsilon_total` later.
            None has nowhere to.
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
        self.policy, self._spending = policy, Spending(purse)
        self._rounds: dict[str, int] = {}
        self._turns: dict[str, Turns] = {}
        self._done_today, self._conditions = done_today, conditions
        self._date, self._count = "", 0
        self._fitted: set[tuple[str, int]] = set()
        self._judging = asyncio.Lock()

    async def why_not_begin(self, run: str, plan: Any) -> str | None:
        """As `why_not_plan`, off the event loop: what a plan costs can take a while to tell. One plan at a time."""
        async with self._judging:
            return await asyncio.get_running_loop().run_in_executor(None, self.why_not_plan, run, plan)

    def why_not_plan(self, run: str, plan: Any) -> str | None:
        """Why a run is not taken part in; nothing is spent yet."""
        reason = self.policy.why_not_plan(plan)
        if reason is None and self.policy.privacy.promises:
            self._rounds[run] = plan["rounds"]
            separation = separation_of(plan)
            if separation is not None:
                self._turns[run] = Turns(separation)
        if reason is None:
            self._spending.note(run, plan)
        if reason is None and self.policy.privacy.epsilon_total is not None:
            reason = self._why_not_spend(run)
        return reason

    def _why_not_spend(self, run: str) -> str | None:
        return self.policy.why_not_spend(*self._spending.cost(run))

    def _why_not_promised(self, letter: Letter) -> str | None:
        """Why an ask is more than was promised; if it is not, the promise is kept before anything is done for it."""
        privacy = self.policy.privacy
        if not privacy.promises:
            self._spending.count(letter)
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
        reason = None if privacy.epsilon_total is None else self._why_not_spend(letter.run)
        reason = reason or self._why_not_release(letter, rounds)
        if reason is None:
            self._spending.spend(letter.run)
        return reason

    def _why_not_release(self, letter: Letter, rounds: int) -> str | None:
        """Why an answer would be one release too many, where it is the node's own noise that makes it one."""
        released = self._spending.released(letter)
        if released is None:
            return None
        if released >= rounds:
            return (
                f"the plan promises differential privacy for {rounds} releases, and this node has given so many: a "
                "round that is begun again is one more"
            )
        self._spending.release(letter.run)
        return None

    async def why_not_ask(self, letter: Letter) -> str | None:
        """Why an ask is not worked on; if it is, it counts from now on."""
        if is_light_step(letter) and letter.own["step"] != "advertise":
            return None  # what was begun is brought to its end
        facts = await asyncio.get_running_loop().run_in_executor(None, self._conditions)
        if facts.date != self._date:
            self._date, self._count, self._fitted = facts.date, 0, set()
        reason = self.policy.why_not_kind(letter.kind) or self.policy.why_not_now(facts)
        if is_light_step(letter):
            return reason
        reason = reason or self._why_not_promised(letter)
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

        All do but the one evaluation of what was fitted in the round before it.
        """
        place = (letter.run, letter.round)
        if letter.kind != "evaluate" or place not in self._fitted:
            return True
        self._fitted.remove(place)
        return False
