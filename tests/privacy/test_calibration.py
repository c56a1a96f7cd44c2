from __future__ import annotations

from typing import Any

import pytest

import umbel as fl
from umbel.privacy.calibration import Calibration, Canaries, calibrate, server_half
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.mutants import MUTANTS, silent
from umbel.privacy.private import Private
from umbel.strategy import Strategy

pytest.importorskip("cryptography")
CANARIES = Canaries(1000)


def real(z: float = 1.0, cap: float | None = None, **changed: Any) -> Private:
    plan = fl.PrivacyPlan(clip=0.5, noise_multiplier=z, delta=1e-5, sampling="every", weight_cap=cap)
    mechanism = Mechanism(noise_multiplier=z, sampling="every", cohort=CANARIES.count, clients=CANARIES.count)
    inner = fl.FedAvg(weighting="examples" if cap else "uniform")
    return Private(inner=inner, plan=plan, mechanism=mechanism, **changed)


def measured(strategy: Strategy, *, exactly: bool = True) -> Calibration:
    below = server_half(silent(strategy), CANARIES) if exactly else None
    return calibrate(server_half(strategy, CANARIES), CANARIES, silent=below)


@pytest.mark.parametrize("cap", [None, 8.0], ids=["uniform", "weighted"])
@pytest.mark.parametrize("exactly", [True, False])
def test_real_releases_keep_their_promise(cap: float | None, exactly: bool) -> None:
    # Less noise where it hides the influences: what is found of them is off by z / √canaries.
    z = 1.0 if exactly else 0.5
    found = measured(real(z, cap=cap), exactly=exactly)
    assert list(found.problems(z)) == []
    # z · C · W / (cohort · W), whatever W.
    assert found.deviation == pytest.approx(z * 0.5 / CANARIES.count, rel=0.02)
    assert found.noise_multiplier == pytest.approx(z, rel=found.tolerance)


@pytest.mark.parametrize("z", [0.5, 4.0])
def test_the_noise_multiplier_is_found_to_two_percent(z: float) -> None:
    assert measured(real(z)).noise_multiplier == pytest.approx(z, rel=0.02)


SENTENCES = {
    "weight not capped": "one client's influence",
    "not clipped": "one client's influence",
    "divided by replies": "depends on who answers",
    "noise divided twice": "one client's influence",
    "noise with a seed": "correlated",
}


@pytest.mark.parametrize("cap", [None, 8.0], ids=["uniform", "weighted"])
@pytest.mark.parametrize("bug", MUTANTS)
def test_seeded_bugs_are_caught(bug: str, cap: float | None) -> None:
    problems = list(measured(MUTANTS[bug](real(cap=cap)), exactly=False).problems(1.0))
    assert any(SENTENCES[bug] in problem for problem in problems), problems
