"""A4: pictures are found in plain gradients, and neither in masked ones nor in noisy releases."""

from __future__ import annotations

from typing import Any

import pytest

import umbel as fl
from umbel.privacy.private import Private
from umbel.runtimes.privacy_report.inversion import inversions
from umbel.runtimes.privately import Parts

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("cryptography")
pytest.importorskip("dp_accounting")


def private(z: float, **changes: Any) -> Private:
    plan = fl.PrivacyPlan(**{"clip": 0.5, "noise_multiplier": z, "delta": 1e-5, "sampling": "every", **changes})
    strategy = fl.FedSGD() if plan.unit == "example" else fl.FedAvg(weighting="uniform")
    parts = Parts(strategy, fl.ServerConfig(10, fraction_evaluate=0.0)).under(plan, 40, has_model=True)
    assert isinstance(parts.strategy, Private)
    return parts.strategy


def test_a_run_without_protection_fails() -> None:
    [row] = inversions(None, None)
    assert row.verdict == "failed"
    assert row.numbers["psnr_db"] > 30


def test_a_masked_update_holds_no_picture_and_a_plain_one_does() -> None:
    [row] = inversions(None, fl.Secure())
    assert (row.verdict, len(row.pictures)) == ("passed", 3)
    assert row.numbers["psnr_db"] < 12
    assert row.numbers["control_psnr_db"] > 30


@pytest.mark.parametrize("changes", [{}, {"unit": "example", "expected_examples": 690}], ids=["client", "example"])
def test_noise_of_one_clip_hides_the_picture_and_clipping_alone_does_not(changes: dict[str, Any]) -> None:
    [row] = inversions(private(1.0, **changes), None)
    assert row.verdict == "passed"
    assert row.numbers["psnr_db"] < 12
    assert row.numbers["control_psnr_db"] > 30


def test_noise_that_is_next_to_nothing_hides_nothing() -> None:
    [row] = inversions(private(0.001), None)
    assert row.verdict == "failed"
    assert "the search finds the picture" in row.text
