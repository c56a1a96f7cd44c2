"""Replay: a log that was made up does not fit its plan, its seed and its checkpoints."""

import copy

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes import checkpoint
from umbel.runtimes.replay import _drawn, replay
from umbel.stores import MemoryStore
from umbel.stores.link import plan_digest
from umbel.testing import Quadratics

TOY = Quadratics(clients=12, dtype="float32")
COHORTS = "cohorts drawn from plan and seed, over-selection included"


class Fails(fl.NumPyClient):
    """Every third one does."""

    def __init__(self, number):
        self.number = number

    def fit(self, parameters, config):
        if self.number % 3 == 0:
            raise ValueError("no data today")
        return [parameters[0] + 1.0], 2, {}

    def evaluate(self, parameters, config):
        return 1.0 / (1.0 + float(parameters[0][0])), 2, {}


def ran(client_fn=TOY.client, clients=12, *, coordinator=None, strategy=None, **config):
    """(plan, events, models) of a simulation."""
    store = MemoryStore()
    given = fl.ServerConfig(**{"num_rounds": 4, "seed": 3, "fraction_fit": 0.5, "min_fit_clients": 1, **config})
    more = {"strategy": strategy, "coordinator": coordinator, "initial_parameters": [np.zeros(3, np.float32)]}
    if client_fn == TOY.client:
        del more["initial_parameters"]
    fl.simulate(client_fn, clients, config=given, store=store, engine="serial", progress=False, **more)
    [run] = store.runs()
    models = {n: checkpoint.read(store.checkpoint(run.id, n))[0].params.digest for n in store.checkpoints(run.id)}
    return run.plan, store.events(run.id), models


@pytest.mark.parametrize("clients", ["all well", "some fail"])
@pytest.mark.parametrize(
    ("over", "coordinator"), [(0.0, None), (0.5, None), (0.0, fl.Secure(clip=16.0, weight_cap=64.0, min_cohort=2))]
)
def test_a_run_as_it_was_fits(clients, over, coordinator):
    if clients == "some fail":
        plan, events, models = ran(
            lambda context: Fails(context.partition_id), over_selection=over, round_retries=9, coordinator=coordinator
        )
    else:
        plan, events, models = ran(over_selection=over, coordinator=coordinator)
    found = replay(plan, events, models)
    assert found.problems == []
    assert found.checked[COHORTS] == 4
    assert found.checked["models of kept checkpoints"] == len(models) >= 2
    assert found.checked["the run's end by what was measured"] == 1
    assert any("sum" in text for text in found.unchecked)


def test_rounds_that_were_tried_again_fit_their_later_cohort():
    plan, events, models = ran(
        lambda context: Fails(context.partition_id), fraction_fit=0.25, quorum=1.0, round_retries=50
    )
    assert any("is tried again" in event.get("text", "") for event in events)
    assert replay(plan, events, models).problems == []


@pytest.mark.parametrize("rule", [{"target": 0.4}, {"patience": 1, "mode": "max"}])
def test_a_run_that_ended_by_its_rule_fits(rule):
    plan, events, models = ran(lambda context: Fails(context.partition_id), num_rounds=9, **rule)
    assert events[-1]["reason"] in ("target", "patience")
    assert replay(plan, events, models).problems == []


def changed(change):
    plan, events, models = ran(over_selection=0.5)
    events = copy.deepcopy(events)
    rounds = [event for event in events if event["kind"] == "round" and event["round"]]
    change(rounds, events, models)
    return replay(plan, events, models).problems


@pytest.mark.parametrize(
    ("change", "piece"),
    [
        (lambda rounds, events, models: rounds[-1].update(model="0" * 64), "holds the model"),
        (lambda rounds, events, models: models.update({4: "0" * 64}), "holds the model"),
        (lambda rounds, events, models: rounds[1]["clients"].pop(), "round 2 was not played by the cohort"),
        (lambda rounds, events, models: rounds[1]["clients"][0].__setitem__(0, "x"), "round 2 was not"),
        (lambda rounds, events, models: rounds[0].update(clients=rounds[1]["clients"]), "round 1 was not"),
        (lambda rounds, events, models: rounds[2]["clients"].append(rounds[2]["clients"][0]), "round 3 was not"),
        (lambda rounds, events, models: events[-1].update(reason="target"), "ended with 'target'"),
        (lambda rounds, events, models: events.remove(rounds[-1]), "plan and metrics say None"),
        (
            lambda rounds, events, models: rounds[2].update(contributions=[{"client": "nobody"}]),
            "round 3 names 6 participants, and the answers of others",
        ),
    ],
)
def test_what_was_made_up_does_not_fit(change, piece):
    assert any(piece in problem for problem in changed(change))


def test_a_reserve_client_in_the_place_of_one_that_did_not_fail_does_not_fit():
    plan, events, models = ran(over_selection=0.5)
    first = next(event for event in events if event["kind"] == "round" and event["round"] == 1)
    taken = {client for client, _ in first["clients"]}
    cohort, wanted = _drawn(fl.ServerConfig(seed=3, fraction_fit=0.5, over_selection=0.5), 12, 1, 0)
    assert taken == set(cohort[:wanted])
    for wrong in (cohort, [*cohort[: wanted - 1], cohort[0]]):  # more than are wanted; one counted twice
        first["clients"] = [[client, 1] for client in wrong]
        assert any("round 1 was not" in problem for problem in replay(plan, events, models).problems)
    first["clients"] = [[client, 1] for client in cohort[:wanted]]
    first["clients"][0][0] = cohort[wanted]
    assert any("round 1 was not" in problem for problem in replay(plan, events, models).problems)
    first["failures"] = [[sorted(taken - {client for client, _ in first["clients"]})[0], "it failed"]]
    assert replay(plan, events, models).problems == []


@pytest.mark.parametrize(
    ("change", "piece"),
    [
        ({"engine": None}, "who was connected"),
        ({"config": {"where": "gpu"}}, "what clients say of themselves"),
        ({"system": {"name": "SystemModel"}}, "simulated time"),
        ({"coordinator": {"name": "Buffered"}}, "asks as answers come"),
        ({"config": {"selector": {"name": "Oort"}}}, "Oort draws by what it learns"),
        ({"config": {"num_rounds": -3}}, "another version"),
    ],
)
def test_what_cannot_be_compared_is_said(change, piece):
    plan, events, models = ran()
    plan = copy.deepcopy(dict(plan))
    for key, value in change.items():
        if value is None:
            del plan[key]
        elif key == "config":
            plan["config"].update(value)
        else:
            plan[key] = value
    events[0]["plan"] = plan_digest(plan)
    found = replay(plan, events, models)
    assert found.problems == []
    assert COHORTS not in found.checked
    assert any(piece in text for text in found.unchecked)


def test_an_interrupted_run_has_no_end_to_compare():
    plan, events, models = ran()
    events[-1]["reason"] = "interrupted"
    assert any("did not come from its plan" in text for text in replay(plan, events, models).unchecked)
