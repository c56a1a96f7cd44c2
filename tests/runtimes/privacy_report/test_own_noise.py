"""Reports on runs whose clients add the noise, or take it away again: measured at one client's answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import umbel as fl
from umbel.coordinators import Secure
from umbel.privacy.mutants import divided_twice
from umbel.privacy.private import Private
from umbel.runtimes.privacy_report.calibrating import calibrated
from umbel.runtimes.privacy_report.own_noise import answered, noise_of_a_client, promised_noise
from umbel.runtimes.privately import Parts

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

EXAMPLES: dict[str, Any] = {"unit": "example", "expected_examples": 60}
OF_CLIENTS: dict[str, dict[str, Any]] = {
    "local": {"noise": "local"},
    "local examples": {"noise": "local", **EXAMPLES},
    "local by layer": {"noise": "local", "clip": {"*": 3.0}},
    "distributed": {"noise": "distributed"},
    "distributed with a share": {"noise": "distributed", "honest_share": 0.75},
    "distributed examples": {"noise": "distributed", **EXAMPLES},
}


def parts(**changed: Any) -> Parts:
    plan = fl.PrivacyPlan(**{"clip": 1.0, "noise_multiplier": 2.0, "delta": 1e-3, "sampling": "every", **changed})
    strategy = fl.FedSGD(server=fl.sgd(1.0)) if plan.unit == "example" else fl.FedAvg(weighting="uniform")
    coordinator = fl.Secure() if plan.noise == "distributed" else None
    config = fl.ServerConfig(4, fraction_evaluate=0.0, seed=1)
    return Parts(strategy, config, coordinator).under(plan, 4, has_model=True)


def private(made: Parts) -> Private:
    assert isinstance(made.strategy, Private)
    return made.strategy


@pytest.mark.parametrize("kind", OF_CLIENTS)
def test_noise_of_clients_is_found_in_their_answers(kind: str) -> None:
    made = parts(**OF_CLIENTS[kind])
    [row] = calibrated(private(made), made.coordinator)
    assert row.verdict == "passed", row.text
    assert row.control is not None
    assert row.control.works, row.control.text
    assert row.numbers["found"] == pytest.approx(row.numbers["promised"], rel=0.03)


@pytest.mark.parametrize("kind", ["local", "distributed"])
def test_a_client_that_adds_too_little_is_told(kind: str) -> None:
    made = parts(**OF_CLIENTS[kind])
    right, secure = private(made), made.coordinator
    assert secure is None or isinstance(secure, Secure)
    less = divided_twice(right)
    if right.mechanism.sharing is not None:
        more = replace(right.mechanism.sharing, noises=8 * right.mechanism.sharing.noises)
        less = replace(right, mechanism=replace(right.mechanism, sharing=more))
    [problem] = answered(less, right, secure).problems(promised_noise(right))
    assert "is promised" in problem
    assert noise_of_a_client(right, secure).verdict == "passed"


def test_noise_that_is_correlated_over_rounds_is_measured_in_the_first() -> None:
    made = parts(sampling="turns", separation=2)
    rows = list(calibrated(private(made), made.coordinator))
    assert [row.verdict for row in rows] == ["passed", "passed"], [row.text for row in rows]
    assert all(row.control is not None and row.control.works for row in rows)
