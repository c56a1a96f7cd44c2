from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import pytest

import umbel as fl
from umbel.message import Group, Update
from umbel.privacy.calibration import calibrate
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.private import Private
from umbel.reducers import Reduction

pytest.importorskip("cryptography")
CANARIES = 1000


def real(z: float = 1.0, cap: float | None = None, **changed: Any) -> Private:
    plan = fl.PrivacyPlan(clip=0.5, noise_multiplier=z, delta=1e-5, sampling="every", weight_cap=cap)
    mechanism = Mechanism(noise_multiplier=z, sampling="every", cohort=CANARIES, clients=CANARIES)
    inner = fl.FedAvg(weighting="examples" if cap else "uniform")
    return Private(inner=inner, plan=plan, mechanism=mechanism, **changed)


@pytest.mark.parametrize("cap", [None, 8.0], ids=["uniform", "weighted"])
def test_real_releases_keep_their_promise(cap: float | None) -> None:
    found = calibrate(real(cap=cap), canaries=CANARIES)
    assert list(found.problems(1.0)) == []
    # z · C · W / (cohort · W), whatever W.
    assert found.deviation == pytest.approx(0.5 / CANARIES, rel=0.02)


@final
@dataclass(frozen=True, kw_only=True)
class Broken(fl.Strategy):
    """A private strategy with a fault in its opening or its step."""

    inner: Private
    opens: Callable[[Private, Update, Any], Mapping[str, Group]] = lambda inner, update, task: inner.open(
        update, task, {}
    )
    steps: Callable[[Private, fl.State, Reduction], fl.State] = lambda inner, state, reduced: inner.step(state, reduced)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reducer", self.inner.reducer)

    def init(self, params: fl.Arrays) -> fl.State:
        return self.inner.init(params)

    def task(self, state: fl.State, round: int) -> Any:
        return self.inner.task(state, round)

    def schema(self, task: Any, own: Mapping[str, Any]) -> Any:
        return self.inner.schema(task, own)

    def local(self, ask: Any, client: Any, ctx: Any) -> Any:
        return self.inner.local(ask, client, ctx)

    def open(self, update: Update, task: Any, own: Mapping[str, Any]) -> Mapping[str, Group]:
        return self.opens(self.inner, update, task)

    def step(self, state: fl.State, reduced: Reduction) -> fl.State:
        return self.steps(self.inner, state, reduced)


def weight_not_capped(inner: Private, update: Update, task: Any) -> Mapping[str, Group]:
    opened = inner.open(update, task, {})
    return {name: replace(group, weight=10 * group.weight) for name, group in opened.items()}


def not_clipped(inner: Private, update: Update, task: Any) -> Mapping[str, Group]:
    return {name: replace(group, weight=1.0) for name, group in update.groups.items()}


def divided_by_replies(inner: Private, state: fl.State, reduced: Reduction) -> fl.State:
    share = reduced["delta"].count / inner.mechanism.cohort
    after = inner.step(state, reduced)
    return replace(after, params=fl.Arrays.of({"w": after.params["w"] / share}))


def divided_twice(count: int) -> Any:
    return np.random.default_rng().standard_normal(count) / 20


def the_same_again(count: int) -> Any:
    return np.random.default_rng(1).standard_normal(count)


MUTANTS: dict[str, tuple[fl.Strategy, str]] = {
    "weight": (Broken(inner=real(cap=8.0), opens=weight_not_capped), "one client's influence"),
    "clip": (Broken(inner=real(), opens=not_clipped), "one client's influence"),
    "denominator": (Broken(inner=real(), steps=divided_by_replies), "depends on who answers"),
    "noise": (real(draw=divided_twice), "one client's influence"),
    "seeded": (real(draw=the_same_again), "correlated"),
}


@pytest.mark.parametrize("bug", MUTANTS)
def test_seeded_bugs_are_caught(bug: str) -> None:
    strategy, sentence = MUTANTS[bug]
    problems = list(calibrate(strategy, canaries=CANARIES).problems(1.0))
    assert any(sentence in problem for problem in problems), problems
