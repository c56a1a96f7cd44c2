"""Turns that outlive the step in which they began, at a server: events in, commands and sums out."""

import gc
import math
import weakref

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Phase, ServerConfig, leader
from umbel.errors import NotSupported, TooFewClients
from umbel.message import Evaluation, Group, Update
from umbel.runtimes.mail import Answer, write_answer
from umbel.runtimes.server.events import CallOff, Came, Deliver, Joined, Keep, Left, Release, Settle, Stalled
from umbel.runtimes.server.memory import Memory
from umbel.runtimes.server.nodes import Nodes
from umbel.runtimes.server.streams import StreamPlayers
from umbel.stores import MemoryStore, RunInfo


class Stage:
    """An asynchronous run whose nodes do what a test says."""

    def __init__(self, settings, names="abcdef", *, memory=None, **config):
        self.now_s = 0.0
        self.nodes = Nodes(tuple(names), frozenset(names))
        store = MemoryStore()
        store.create(RunInfo("run", "run", 0.0, "running", {}))
        self.strategy = fl.FedAvg()
        self.coordinator = leader(settings, ServerConfig(20, seed=1, min_available_clients=1, **config), self.nodes)
        self.players = StreamPlayers(
            "run", self.strategy, self.nodes, store, seed=1, clock=lambda: self.now_s, memory=memory
        )
        self.model = self.strategy.init(Arrays.of({"w": np.zeros(3)}))
        self.steps = None
        self.told = []

    def begin(self):
        """Open the next step; returns whom it asks."""
        phase = self.coordinator.begin(self.now_s)
        self.task = self.strategy.task(self.model, phase.round)
        self.steps = self.players.fit(phase, self.task, self.coordinator)
        self.result, before = None, len(self.heard(Deliver))
        self._go(None)
        return sorted(command.client for command in self.heard(Deliver)[before:])

    def _go(self, events):
        try:
            self.until_s = self.steps.send(events)
        except StopIteration as end:
            self.result = end.value
        self.told += self.players.outbox
        self.players.outbox = []

    def tell(self, *events):
        """Let events come; returns who is asked because of them."""
        before = len(self.heard(Deliver))
        self._go(list(events))
        return sorted(command.client for command in self.heard(Deliver)[before:])

    def heard(self, kind):
        return [command for command in self.told if isinstance(command, kind)]

    def asked(self, client):
        """The newest ask of a client."""
        return next(c.ask for c in reversed(self.heard(Deliver)) if c.client == client)

    def came(self, client, value=1.0, examples=1, ask=None, verdict="done", **more):
        ask = ask or self.asked(client)
        update = Update({"delta": Group(Arrays.of({"w": np.full(3, value)}), float(examples))}, examples)
        if verdict != "done":
            more["reason"], update = "the disk is full", None
        answer = Answer("run", ask.task.round, ask.attempt, ask.kind, client, verdict, update=update, **more)
        return Came(client, memoryview(b"".join(write_answer(answer))), token=7)

    def finish(self):
        """Close the step that is complete; returns its mean change."""
        tally, self.failures = self.result
        self.coordinator.close(examples=tally.examples.value)
        mean = tally.accumulator.result()["delta"].mean()
        self.model = self.strategy.init(Arrays.of({"w": self.model.params["w"] + mean["w"]}))
        self.record = self.players.account()
        self.coordinator.finish({})
        self.checkpoint = {**self.coordinator.state(), **self.players.state()}
        self.players.kept(0, tally, {})
        self.told += self.players.outbox
        self.players.outbox = []
        return float(mean["w"][0])

    def alive(self, models):
        """Which of these models are in memory, after what was sent is gone."""
        self.told.clear()
        gc.collect()
        return [model() is not None for model in models]

    def step(self, *clients):
        """One step that is made by these clients."""
        asked = self.begin()
        self.tell(*[self.came(client) for client in clients])
        self.finish()
        return asked


def test_a_free_place_is_filled_at_once_by_a_node_that_is_idle():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=3))
    first, second = stage.begin()
    (third,) = stage.tell(stage.came(first))
    assert third not in (first, second)
    (fourth,) = stage.tell(stage.came(second, verdict="failed"))
    assert fourth not in (first, second, third)


def test_fewer_nodes_than_places_will_do_and_who_joins_is_asked_at_once():
    stage = Stage(fl.Buffered(concurrency=5, buffer_size=5), "ab")
    assert stage.begin() == ["a", "b"]
    stage.nodes.names = ("a", "b", "c")
    assert stage.tell(Joined("c")) == ["c"]
    stage.tell(stage.came("a"), stage.came("b"))
    assert stage.result is None
    stage.tell(stage.came("c"))  # the last one that there is
    assert stage.finish() == 1.0


def test_an_update_is_scaled_by_the_steps_that_were_made_since_it_was_asked():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=1), "ab")
    stage.step("a")
    stage.step("a")
    stage.step("a")
    stage.begin()
    stage.tell(stage.came("b", 8.0))
    assert stage.finish() == 8.0 * (1 + 3) ** -0.5
    [contribution] = stage.record.pop("contributions")
    assert (contribution["client"], contribution["round"]) == ("b", 1)
    assert stage.record == {"staleness": 3.0, "versions": [["b", 1]]}


def test_mixing_moves_the_model_towards_the_clients_and_not_by_its_change():
    stage = Stage(fl.FedAsync(concurrency=2, mixing=1.0, staleness_exponent=0.0), "ab")
    stage.step("a")  # the model is 1 now
    stage.begin()
    stage.tell(stage.came("b", 5.0))  # b began at 0, so its model is 5
    stage.finish()
    assert stage.model.params["w"].tolist() == [5.0] * 3


def test_what_comes_after_the_last_update_of_a_step_is_for_the_next_one():
    stage = Stage(fl.Buffered(concurrency=3, buffer_size=1), "abc")
    stage.begin()
    stage.tell(stage.came("a", 1.0), stage.came("b", 2.0), stage.came("c", 4.0))
    assert stage.finish() == 1.0
    stage.begin()
    assert stage.finish() == 2.0 * 2**-0.5
    stage.begin()
    assert stage.finish() == 4.0 * 3**-0.5


def test_an_answer_that_comes_twice_counts_once():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=2), "ab")
    stage.begin()
    ask = stage.asked("a")
    stage.tell(stage.came("a", ask=ask), stage.came("a", ask=ask))
    stage.tell(stage.came("a", ask=ask))
    assert stage.result is None
    assert len(stage.heard(Release)) == 3  # none of them keeps its room
    stage.tell(stage.came("b"))
    assert len(stage.result[0].receipts) == 2


def test_the_place_of_a_lost_node_is_filled_and_its_update_counts_if_it_comes_back():
    stage = Stage(fl.Buffered(concurrency=1, buffer_size=1), "ab")
    (first,) = stage.begin()
    other = "ab".replace(first, "")
    stage.nodes.names = (other,)
    assert stage.tell(Left(first)) == [other]
    stage.tell(stage.came(other))
    stage.finish()
    stage.begin()
    stage.nodes.names = ("a", "b")
    assert stage.tell(Joined(first)) == [first]
    assert stage.asked(first).task.round == 1
    stage.tell(stage.came(first, 4.0))
    assert stage.finish() == 4.0 * 2**-0.5


def test_of_nodes_that_are_gone_no_more_are_waited_for_than_there_are_places():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=2))
    first, second = stage.begin()
    (third,) = stage.tell(Left(first))
    stage.tell(Left(second))
    stage.tell(Left(third))
    assert [command.client for command in stage.heard(CallOff)] == [first]
    assert stage.coordinator.training.keys() >= {second, third}


def test_updates_that_became_too_stale_are_called_off():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=1, max_staleness=1), "abc")
    slow = stage.begin()[0]
    others = [name for name in "abc" if name != slow]
    for called_off in ([], [(slow, 1)]):
        stage.tell(stage.came(next(client for client in others if stage.players.awaits(client))))
        stage.finish()
        stage.begin()
        assert [(command.client, command.round) for command in stage.heard(CallOff)] == called_off
    assert stage.coordinator.training.get(slow) != 1


def test_a_version_is_held_as_long_as_an_ask_on_it_is_out_and_no_longer():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=1), "ab")
    models = []
    for _ in range(5):
        stage.begin()
        models.append(weakref.ref(stage.task.arrays.buffer))
        stage.tell(stage.came("a"))
        stage.finish()
        assert stage.players.versions == [1]
    stage.begin()
    kept = stage.heard(Keep)[-1].digests
    assert kept == {stage.asked("b").task.arrays.digest, stage.task.arrays.digest}
    answer = stage.came("b")
    assert stage.alive(models) == [True, False, False, False, False]
    stage.tell(answer)
    stage.finish()
    assert stage.alive(models) == [False] * 5
    assert stage.players.versions == [6]  # a works on it


def test_versions_are_at_most_twice_the_places_however_often_nodes_are_lost():
    stage = Stage(fl.Buffered(concurrency=3, buffer_size=1), [str(index) for index in range(40)])
    most = 0
    for _ in range(12):
        stage.begin()
        lost, *rest = sorted(stage.coordinator.training, key=stage.coordinator.training.get, reverse=True)
        stage.nodes.names = tuple(name for name in stage.nodes.names if name != lost)
        stage.tell(Left(lost))
        stage.tell(stage.came(next(name for name in rest if name in stage.nodes.names)))
        stage.finish()
        most = max(most, len(stage.players.versions))
    assert 3 < most <= 6


def test_with_nobody_else_to_ask_a_step_is_made_of_what_there_is():
    stage = Stage(fl.Buffered(concurrency=3, buffer_size=9), "abc")
    stage.begin()
    stage.tell(stage.came("a"), Left("b"))
    stage.nodes.names = ("a", "c")
    assert stage.until_s == math.inf  # c is still at work
    stage.tell(stage.came("c"))
    assert stage.until_s == 10.0  # b may come back
    stage.now_s = 10.0
    stage.tell()
    assert len(stage.result[0].receipts) == 2
    assert stage.players.awaits("b")


def test_a_step_to_which_nobody_could_contribute_ends_the_run_with_a_sentence():
    stage = Stage(fl.Buffered(concurrency=3, buffer_size=2), "ab")
    stage.begin()
    stage.tell(stage.came("a", verdict="failed"), stage.came("b", verdict="failed"))
    with pytest.raises(TooFewClients, match="0 updates arrived and 2 clients failed; client a: the disk is full"):
        stage.coordinator.close(examples=stage.result[0].examples.value)


def test_of_updates_without_examples_no_step_is_made_and_others_are_asked():
    stage = Stage(fl.Buffered(concurrency=1, buffer_size=1), "ab")
    (first,) = stage.begin()
    (other,) = stage.tell(stage.came(first, 5.0, examples=0))
    assert stage.result is None
    stage.tell(stage.came(other, 3.0))
    assert stage.finish() == 3.0
    assert [(receipt.client, receipt.reason) for receipt in stage.failures] == [(first, "has no examples")]
    assert {(c.client, c.included) for c in stage.heard(Settle)} == {(first, False), (other, True)}


@pytest.mark.parametrize(
    ("restarted", "said", "learned"), [(False, math.nan, 3.0), (True, 2.0, 2.0), (True, math.nan, 0.0)]
)
def test_how_long_a_turn_took_is_measured_here_or_a_time_that_the_node_says(restarted, said, learned):
    stage = Stage(fl.Tiered(waits_for=0.5), "ab", fraction_fit=1.0)
    stage.begin()
    stage.now_s = 3.0
    stage.tell(stage.came("a", seconds=said if not restarted else 1.0))
    stage.finish()
    client = "a"
    if restarted:
        again, ask = Stage(fl.Tiered(waits_for=0.5), "ab", fraction_fit=1.0), stage.asked("b")
        again.coordinator.restore(stage.checkpoint)
        again.players.restore(stage.checkpoint)
        again.begin()
        again.tell(again.came("b", ask=ask, seconds=said), again.came("a"))
        again.finish()
        stage, client = again, "b"
    known = {name: seconds for name, seconds, _ in stage.coordinator.learned()["known"]}
    assert known[client] == learned


def test_an_upload_that_stood_still_is_asked_for_again():
    stage = Stage(fl.Buffered(concurrency=1, buffer_size=1), "a")
    stage.begin()
    assert stage.tell(Stalled("a", 1, 0)) == ["a"]


def test_those_that_train_are_not_asked_to_evaluate_and_their_answers_wait_for_the_next_step():
    stage = Stage(fl.Buffered(concurrency=3, buffer_size=1), "abc")
    stage.begin()
    stage.tell(stage.came("a"))
    stage.finish()
    steps = stage.players.evaluate(Phase(1, "evaluate", ("a", "b", "c")), stage.task)
    next(steps)
    assert [c.client for c in stage.players.outbox if isinstance(c, Deliver)] == ["a"]
    stage.now_s = 5.0
    assert steps.send([stage.came("b", 2.0)]) == 15.0  # b is not kept waiting for longer
    stage.now_s = 15.0
    with pytest.raises(StopIteration) as ended:
        steps.send([])
    (late,) = ended.value.value.receipts
    assert (late.client, late.reason) == ("a", "did not evaluate in time")
    stage.begin()
    assert stage.finish() == 2.0 * 2**-0.5


def test_an_evaluation_that_is_done_holds_up_nobody():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=1), "ab")
    stage.begin()
    stage.tell(stage.came("a"))
    stage.finish()
    steps = stage.players.evaluate(Phase(1, "evaluate", ("a", "b")), stage.task)
    next(steps)
    answer = Answer("run", 1, 0, "evaluate", "a", evaluation=Evaluation(0.5, 3))
    with pytest.raises(StopIteration) as ended:
        steps.send([Left("b"), Came("a", memoryview(b"".join(write_answer(answer))))])
    assert ended.value.value.means() == {"loss": 0.5}
    stage.nodes.names = ("a",)
    stage.begin()
    assert stage.coordinator.training == {"a": 2, "b": 1}  # b was lost meanwhile, and a asked again


def test_after_a_restart_finished_updates_count_on_the_model_that_they_began_from():
    settings = fl.Buffered(concurrency=2, buffer_size=1)
    before = Stage(settings, "ab")
    before.step("a")
    before.step("a")
    ask = before.asked("b")
    after = Stage(settings, "ab")
    after.model = before.model
    after.coordinator.restore(before.checkpoint)
    after.players.restore(before.checkpoint)
    assert after.begin() == ["a", "b"]  # one on the newest model, the other on the one that it was given
    assert after.asked("b") == ask
    after.tell(after.came("b", 8.0))
    assert after.finish() == 8.0 * 3**-0.5


def test_after_a_restart_the_place_of_a_node_that_is_not_there_is_filled():
    settings = fl.Buffered(concurrency=1, buffer_size=1)
    before = Stage(settings, "abc")
    (first,) = before.begin()
    (second,) = before.tell(Left(first))
    before.tell(before.came(second))
    before.finish()
    after = Stage(settings, [name for name in "abc" if name != first])
    after.coordinator.restore(before.checkpoint)
    after.players.restore(before.checkpoint)
    (asked,) = after.begin()
    assert asked != first
    after.nodes.names = ("a", "b", "c")
    assert after.tell(Joined(first)) == [first]


def test_after_the_last_step_nobody_trains_any_more():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=1), "ab")
    for _ in range(20):
        stage.step("a")
    assert [command.client for command in stage.heard(CallOff)] == ["b"]
    assert stage.players.versions == []
    assert stage.checkpoint["training"] == []


def test_a_step_that_does_not_fit_into_memory_is_refused_with_a_sentence():
    stage = Stage(fl.Buffered(concurrency=2, buffer_size=2), memory=Memory(limit_bytes=1))
    with pytest.raises(NotSupported, match="an asynchronous run scales updates in memory; lower"):
        stage.begin()
