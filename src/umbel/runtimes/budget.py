"""A run's privacy budget: what was released is written down before it is, and the run stops where the budget does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from umbel.privacy.accounting import affordable, epsilon
from umbel.privacy.private import Private

RELEASE = "release"
"""The kind of a ledger's entries. Going back to an earlier round undoes none of them: what is out stays out."""


@final
@dataclass
class Budget:
    """Counts the releases of one run.

    Attributes:
        releases: how many are in the ledger, those of rounds that were begun again included.
        most: how many there may be.
    """

    private: Private
    releases: int
    most: int

    @classmethod
    def of(cls, private: Private, log: Iterable[Mapping[str, Any]], rounds: int, *, promised: bool = False) -> Budget:
        """The budget as the run's log leaves it, the rounds that were left unfinished included.

        Args:
            promised: whether somebody was told what `rounds` releases cost, so that there may not be more.
        """
        plan, before = private.plan, sum(event["kind"] == RELEASE for event in log)
        most = max(before, rounds) if promised else before + rounds
        if plan.target_epsilon is not None:
            most = affordable(private.mechanism, plan.target_epsilon, plan.delta, most)
        return cls(private, before, most)

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
            "epsilon": epsilon(mechanism, self.releases, plan.delta),
            "delta": plan.delta,
            "noise_multiplier": mechanism.noise_multiplier,
            "sampling": mechanism.sampling,
            "cohort": mechanism.cohort,
            "clients": mechanism.clients,
            "adjacency": mechanism.adjacency,
            **({} if mechanism.sharing is None else {"noises": mechanism.sharing.noises}),
        }
