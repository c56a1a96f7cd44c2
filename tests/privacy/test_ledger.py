"""No release without an entry in the ledger that outlives `kill -9`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deadly import played

import umbel as fl
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.plan import PrivacyPlan
from umbel.privacy.private import Private
from umbel.runtimes.budget import Budget
from umbel.stores import SQLiteStore
from umbel.stores.link import verify
from umbel.strategies import FedAvg

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

PROGRAM = """
import sys
import numpy as np
import umbel as fl
from tests.deadly import Deadly, Fuse
from umbel.stores import SQLiteStore

path, place, countdown, resume = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
store = Deadly(SQLiteStore(path), Fuse(place, countdown))

class Still(fl.NumPyClient):
    def fit(self, parameters, config): return parameters, 1, {}

history = fl.simulate(
    lambda context: Still(), 10, strategy=fl.FedAvg(weighting="uniform"),
    config=fl.ServerConfig(3, fraction_fit=0.5, fraction_evaluate=0.0, seed=1),
    privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=2.0, target_epsilon=2.0, delta=1e-3),
    initial_parameters=[np.zeros(20)], engine="serial", store=store, resume=resume or None,
    progress=False)
print([release.round for release in history.privacy], history.privacy[-1].epsilon, len(history.rounds))
"""


def program(folder: Path, place: str = "nowhere", countdown: int = 1, resume: str = "") -> tuple[int, str]:
    done = played(folder, PROGRAM, folder / "runs.db", place, countdown, resume)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("place", "countdown", "releases"),
    [
        ("before release", 2, [1, 2, 3]),
        ("after release", 2, [1, 2, 2, 3]),
        ("between fold and checkpoint", 2, [1, 1, 2, 3]),
        ("after checkpoint", 2, [1, 2, 3]),
    ],
)
def test_what_was_released_before_a_kill_is_paid_for(
    place: str, countdown: int, releases: list[int], tmp_path: Path
) -> None:
    assert program(tmp_path, place, countdown)[0] == -signal.SIGKILL
    store = SQLiteStore(tmp_path / "runs.db")
    run = store.runs()[0].id
    code, told = program(tmp_path, resume=run)
    assert code == 0
    assert told.startswith(f"{releases} ")
    assert told.rstrip().endswith(" 3")
    log = store.log(run)
    assert verify(run, log).problem is None
    # The noise of a model is drawn when the ledger has it, never before.
    for place_of, event in enumerate(log):
        if event["kind"] == "round" and event["round"]:
            assert log[place_of - 1]["kind"] == "release"
            assert log[place_of - 1]["round"] == event["round"]
    costs = [event["epsilon"] for event in log if event["kind"] == "release"]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(releases)


def test_kills_do_not_stretch_the_budget(tmp_path: Path) -> None:
    """Each kill after a release costs one; the run ends at its target all the same."""
    run = ""
    for _ in range(12):
        code, _ = program(tmp_path, "after release", 1, run)
        run = SQLiteStore(tmp_path / "runs.db").runs()[0].id
        if code == 0:
            break
    assert code == 0, "the budget was never spent"
    released = [event for event in SQLiteStore(tmp_path / "runs.db").log(run) if event["kind"] == "release"]
    assert 1 < len(released) < 12
    assert released[-1]["epsilon"] <= 2.0


def test_a_run_that_was_promised_to_nodes_releases_no_more_than_its_rounds() -> None:
    """Whatever was begun again: without a promise each try is paid for on top."""
    plan = PrivacyPlan(clip=1.0, noise_multiplier=2.0, delta=1e-3, sampling="every")
    mechanism = Mechanism(noise_multiplier=2.0, sampling="every", cohort=4, clients=4)
    private = Private(inner=FedAvg(weighting="uniform"), plan=plan, mechanism=mechanism)
    log = [{"kind": "release"}] * 2
    assert Budget.of(private, log, 3).most == 5
    budget = Budget.of(private, log, 3, promised=True)
    assert (budget.most, budget.sentence) == (3, None)
    budget.entry(2)
    assert "would exceed what the nodes were promised" in str(budget.sentence)


@pytest.mark.parametrize(("noise", "coordinator"), [("distributed", fl.Secure()), ("local", None)])
def test_where_clients_add_the_noise_the_ledger_has_a_round_before_they_are_asked(noise: Any, coordinator: Any) -> None:
    store = fl.MemoryStore()
    seen: list[int] = []

    class Watching(fl.NumPyClient):
        def fit(self, parameters: Any, config: Any) -> Any:
            [info] = store.runs()
            seen.append(sum(event["kind"] == "release" for event in store.log(info.id)))
            return parameters, 1, {}

    history = fl.simulate(
        lambda context: Watching(),
        3,
        strategy=fl.FedAvg(weighting="uniform"),
        config=fl.ServerConfig(2, fraction_evaluate=0.0),
        initial_parameters=[np.zeros(4)],
        engine="serial",
        store=store,
        privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=1.5, delta=1e-5, sampling="every", noise=noise),
        coordinator=coordinator,
        progress=False,
    )
    assert seen == [1, 1, 1, 2, 2, 2]
    assert len(history.privacy) == 2
