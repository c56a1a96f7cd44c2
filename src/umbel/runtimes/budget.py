"""A run's privacy budget: what was released is written down before it is, and the run stops where the budget does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from umbel.privacy.accounting import affordable, epsilon
from umbel.privacy.promised import Promised

RELEASE = "release"
"""The kind of a ledger's entries. Going back to an earlier round undoes none of them: what is out stays out."""


@final
@dataclass
class Budget:
    """Counts the releases of one run.

    Attributes:
        releases: how many are in the ledger, those of rounds that were begun again included.
        most: how many there may be.
        before: where noise is correlated over rounds, how many releases each earlier process of the run made.
    """

    private: Promised
    releases: int
    most: int
    before: tuple[int, ...] = ()

    @classmethod
    def of(cls, private: Promised, log: Iterable[Mapping[str, Any]], rounds: int, *, promised: bool = False) -> Budget:
        """The budget as the run's log leaves it, the rounds that were left unfinished included.

        Args:
            promised: whether somebody was told what `rounds` releases cost, so that there may not be more.
        """
        plan, entries = private.plan, [event for event in log if event["kind"] == RELEASE]
        before = len(entries)
        most = max(before, rounds) if promised else before + rounds
        parts = tuple(Counter(event["part"] for event in entries if "part" in event).values())
        limit = plan.target_epsilon
        if limit is None and promised and parts:
            # In parts the same rounds may cost more than in one, which is what was promised.
            limit = epsilon(private.mechanism, rounds, plan.delta)
        if limit is not None:
            # Parts before are paid for by themselves; releases are those of this one then.
            rest = before if parts else 0
            most = rest + affordable(private.mechanism, limit, plan.delta, most - rest, parts)
        return cls(private, before, most, parts)

    @property
    def first(self) -> bool:
        """Whether a round's entry is written before its clients are asked, as what they send is the release."""
        return self.private.plan.noise != "server"

    @property
    def sentence(self) -> str | None:
        """Why no further round may begin; None if one may."""
        if self.releases < self.most:
            return None
        plan = self.private.plan
        spent = f"the privacy budget is spent: one release more than the {self.releases} so far would exceed"
        if plan.target_epsilon is None:
            return f"{spent} what the nodes were promised; rounds that were begun again were paid for, too"
        return f"{spent} target_epsilon={plan.target_epsilon} at delta={plan.delta}; allow a larger one, or noise more"

    def entry(self, round: int) -> dict[str, Any]:
        """The ledger's entry for the release of `round`, to be durable before the noise is drawn."""
        self.releases += 1
        plan, mechanism = self.private.plan, self.private.mechanism
        return {
            "kind": RELEASE,
            "round": round,
            "release": self.releases,
            "epsilon": epsilon(mechanism, self.releases - sum(self.before), plan.delta, self.before),
            "delta": plan.delta,
            "noise_multiplier": mechanism.noise_multiplier,
            "sampling": mechanism.sampling,
            "cohort": mechanism.cohort,
            "clients": mechanism.clients,
            "adjacency": mechanism.adjacency,
            **({} if mechanism.correlation is None else {"part": len(self.before)}),
            **({} if mechanism.sharing is None else {"noises": mechanism.sharing.noises}),
            **({} if plan.dp_sgd is None else {"sample_rate": plan.sample_rate, "local_steps": plan.local_steps}),
        }
