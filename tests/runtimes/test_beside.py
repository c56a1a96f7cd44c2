"""The server evaluates a model while clients work: beside the next round, or beside their own evaluation."""

import os
import select
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest

import umbel as fl
from umbel.coordinators import Selector
from umbel.coordinators.population import cohort_key
from umbel.errors import ConfigError, TooFewClients
from umbel.stores import MemoryStore
from umbel.testing import Quadratics

LONGEST_S = 20


class Counts(fl.NumPyClient):
    """Adds what depends on its own state and generator; says which round it began, if it has a pipe to say so."""

    def __init__(self, context, pipe=None, refuses=()):
        self.context, self.pipe, self.refuses = context, pipe, refuses

    def fit(self, parameters, config):
        if self.pipe is not None:
            write(self.pipe, self.context.round)
        if (self.context.round, self.context.partition_id) in self.refuses:
            raise RuntimeError("not today")
        turns = self.context.state.get("turns", 0) + 1
        self.context.state["turns"] = turns
        return [parameters[0] + turns * self.context.rng.random(3)], 1 + self.context.partition_id, {"turns": turns}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 1, {"turns": self.context.state.get("turns", 0)}


def norm(round, parameters, config):
    return float(np.abs(parameters[0]).sum()), {"odd": round % 2, "name": "no number"}


def told(engine, client_fn=Counts, strategy=None, store=None, catch=(), resume=None, system=None, **changes):
    """The whole log of a run, and its checkpoints, without wall times, name and plan, which has the engine."""
    functions = {"evaluate_fn": norm, **changes.pop("functions", {})}
    settings = {"num_rounds": 4, "seed": 3, "fraction_evaluate": 0.0, "fraction_fit": 0.6, "checkpoint_every": 9}
    settings |= changes
    store = store or MemoryStore()
    start = [np.zeros(3)] if client_fn is not None and strategy is None else None
    with suppress(catch):
        fl.simulate(
            client_fn,
            5,
            strategy=strategy,
            config=fl.ServerConfig(**settings),
            initial_parameters=start,
            engine=engine,
            workers=2 if engine == "pool" else None,
            store=store,
            resume=resume,
            system=system,
            progress=False,
            **functions,
        )
    run = store.runs()[-1].id
    events = [
        {k: v for k, v in event.items() if k not in ("seconds", "previous", "plan")} for event in store.events(run)
    ]
    return events, [(number, bytes(store.checkpoint(run, number))) for number in store.checkpoints(run)]


@pytest.fixture
def pipe(tmp_path):
    """A pipe with a name: workers are not always forked from this process."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)
    yield str(path)
    os.close(end)


def write(path, number):
    end = os.open(path, os.O_RDWR)
    os.write(end, bytes([number]))
    os.close(end)


def came(path, number):
    """The largest number that is in a pipe, once `number` has come or nothing comes any more."""
    end, begun = os.open(path, os.O_RDWR), b""
    while number not in begun and select.select([end], [], [], LONGEST_S)[0]:
        begun += os.read(end, 2**16)
    os.close(end)
    return max(begun, default=0)


def test_the_next_round_trains_while_the_server_evaluates(pipe):
    seen = {}

    def evaluate(round, parameters, config):
        if 0 < round < 4:
            seen[round] = came(pipe, round + 1)
        return norm(round, parameters, config)

    functions = {"evaluate_fn": evaluate}
    told("pool", lambda context: Counts(context, pipe), functions=functions, checkpoint_every=4)
    assert seen == {1: 2, 2: 3, 3: 4}


def test_a_round_with_a_checkpoint_is_whole_before_the_next_begins(pipe, tmp_path):
    """What a crash may cost does not grow: with a checkpoint each round it is the round in flight."""
    seen = {0: 0}

    def evaluate(round, parameters, config):
        begun = b""
        while round and select.select([end], [], [], 0.5)[0]:
            begun += os.read(end, 2**16)
        seen[round] = max(begun, default=seen.get(round - 1, 0))
        return norm(round, parameters, config)

    end = os.open(pipe, os.O_RDWR)
    told("pool", lambda context: Counts(context, pipe), functions={"evaluate_fn": evaluate}, checkpoint_every=2)
    os.close(end)
    assert seen[2] == 2
    assert max(seen.values()) == 4


def test_clients_evaluate_while_the_server_does_where_the_next_round_has_to_wait(pipe):
    def evaluate(round, parameters, config):
        write(pipe, round)
        return norm(round, parameters, config)

    class Waits(Counts):
        def evaluate(self, parameters, config):
            return 0.0, 1, {"begun": came(pipe, self.context.round)}

    functions = {"evaluate_fn": evaluate, "on_fit_config_fn": lambda _: {}}
    events, _ = told("pool", Waits, functions=functions, fraction_evaluate=0.2, num_rounds=2)
    assert [e["metrics"]["begun"] for e in events if e["kind"] == "round" and e["round"]] == [1, 2]


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("federated", [0.0, 0.4])
def test_it_changes_nothing_about_the_log_and_the_checkpoints(every, federated):
    changes = {"checkpoint_every": every, "fraction_evaluate": federated, "evaluate_every": 2}
    assert told("pool", **changes) == told("serial", **changes)


def test_it_changes_nothing_with_states_that_go_from_round_to_round():
    toy = Quadratics(clients=5)

    def loss(round, parameters, config):
        return float(sum(np.square(array).sum() for array in parameters.values())), {}

    scaffold = {"client_fn": toy.client, "strategy": fl.Scaffold(), "functions": {"evaluate_fn": loss}}
    assert told("pool", **scaffold) == told("serial", **scaffold)


def test_it_changes_nothing_with_time():
    system = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 0.5))
    assert told("pool", system=system, over_selection=0.5) == told("serial", system=system, over_selection=0.5)


def test_it_changes_nothing_where_a_round_is_tried_again():
    def client_fn(context):
        return Counts(context, refuses={(3, 0)})

    changes = {"quorum": 1.0, "round_retries": 2, "num_rounds": 5, "seed": 8}
    pool, serial = told("pool", client_fn, **changes), told("serial", client_fn, **changes)
    assert any("tried again" in event.get("text", "") for event in serial[0])
    assert pool == serial


@pytest.mark.parametrize(
    "changes",
    [
        {"target": 20.0, "monitor": "central_loss", "mode": "max"},
        {"patience": 2, "monitor": "central_loss"},
        {"functions": {"stop_when": lambda record: record.loss > 20.0}},
    ],
    ids=["target", "patience", "stop_when"],
)
def test_a_run_that_its_numbers_end_ends_in_the_same_round(changes):
    pool, serial = (told(engine, num_rounds=9, **changes) for engine in ("pool", "serial"))
    assert pool == serial
    assert pool[0][-1]["reason"] in ("target", "patience", "stopped")
    assert pool[0][-1]["round"] < 9


def test_a_function_that_reads_what_evaluate_fn_left_comes_after_it():
    def run(engine):
        left = []

        def evaluate(round, parameters, config):
            left.append(round)
            return norm(round, parameters, config)

        def settings(round):
            assert left[-1] == round - 1
            return {"lr": 0.1 * len(left)}

        return told(engine, functions={"evaluate_fn": evaluate, "on_fit_config_fn": settings})

    assert run("pool") == run("serial")


@pytest.mark.parametrize("error", [ConfigError("no test set"), ValueError("no test set")], ids=["ours", "any"])
def test_an_evaluation_that_fails_leaves_what_it_always_leaves(error):
    def evaluate(round, parameters, config):
        if round == 2:
            raise error
        return norm(round, parameters, config)

    functions = {"evaluate_fn": evaluate}
    pool, serial = (told(engine, functions=functions, catch=type(error)) for engine in ("pool", "serial"))
    assert pool == serial
    assert [event["round"] for event in pool[0] if event["kind"] == "round"] == [0, 1]
    assert all(event["round"] == 1 for event in pool[0] if event["kind"] == "ended")


def test_a_next_round_that_fails_takes_nothing_from_the_one_before():
    def client_fn(context):
        return Counts(context, refuses={(3, client) for client in range(5)})

    pool, serial = (told(engine, client_fn, catch=TooFewClients) for engine in ("pool", "serial"))
    assert pool == serial
    assert [event["round"] for event in pool[0] if event["kind"] == "round"] == [0, 1, 2]
    assert pool[0][-1]["reason"].startswith("failed")


def test_nor_does_one_in_which_a_function_of_the_users_raises(monkeypatch):
    tasked = fl.FedAvg.task

    def task(self, state, round):
        if round == 3:
            raise ZeroDivisionError("no task")
        return tasked(self, state, round)

    monkeypatch.setattr(fl.FedAvg, "task", task)
    pool, serial = (told(engine, catch=ZeroDivisionError) for engine in ("pool", "serial"))
    assert pool == serial
    assert [event["round"] for event in pool[0] if event["kind"] == "round"] == [0, 1, 2]
    assert pool[0][-1]["reason"] == "failed: ZeroDivisionError: no task"


@dataclass(frozen=True)
class Tires(Selector):
    """Draws nobody from the third round on."""

    def draw(self, population, key, count, experience, excluded=()):
        return [] if key == cohort_key(3, 3, 0, "fit") else population.sample(key, count)


def test_a_next_round_that_cannot_begin_takes_nothing_from_the_one_before():
    pool = told("pool", selector=Tires(), catch=TooFewClients)
    assert pool == told("serial", selector=Tires(), catch=TooFewClients)
    story = [(event["kind"], event["round"]) for event in pool[0] if event["kind"] != "warning"]
    assert story == [*(("round", r) for r in range(3)), ("ended", 2)]


def test_a_run_broken_off_while_it_evaluates_goes_on_to_the_same_end():
    def breaks(round, parameters, config):
        if round == 2:
            raise KeyboardInterrupt
        return norm(round, parameters, config)

    store = MemoryStore()
    broken = told("pool", store=store, functions={"evaluate_fn": breaks})
    assert broken[0][-1]["reason"] == "interrupted"
    events, checkpoints = told("pool", store=store, resume="last")
    whole = told("serial")
    assert checkpoints == whole[1]
    assert [e for e in events if e["kind"] == "round"] == [e for e in whole[0] if e["kind"] == "round"]


class Says(Counts):
    """Reports in round 2 what is no number, which is said in the log."""

    def fit(self, parameters, config):
        found, examples, metrics = super().fit(parameters, config)
        return found, examples, metrics | ({"mood": "fine"} if self.context.round == 2 else {})


@pytest.mark.parametrize("engine", ["serial", "pool"])
def test_what_is_said_of_a_round_stands_after_the_round_before(engine):
    events, _ = told(engine, client_fn=Says)
    assert any(event["kind"] == "warning" and event["round"] == 2 for event in events)
    rounds = [event["round"] for event in events]
    assert rounds == sorted(rounds)
