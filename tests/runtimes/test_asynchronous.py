"""Asynchronous runs on the simulated clock, against a loop that plays every client as time goes by."""

import heapq
from dataclasses import replace

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Everyone, Streams
from umbel.errors import ConfigError, RoundError, TooFewClients
from umbel.message import Receipt
from umbel.runtimes import checkpoint
from umbel.runtimes.engine import Engine
from umbel.runtimes.players import VirtualPlayers, finished
from umbel.runtimes.program import Program
from umbel.runtimes.serial import SerialEngine
from umbel.runtimes.simulated import Course
from umbel.stores import MemoryStore, RunInfo
from umbel.testing import Quadratics, WithHead

HEAVY = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.5), dropout=0.1)
BUFFERED = fl.Buffered(concurrency=12, buffer_size=4)
ASYNC = fl.FedAsync(concurrency=8, mixing=0.7)


def run(coordinator=BUFFERED, toy=None, system=HEAVY, engine="serial", workers=None, strategy=None, **rest):
    toy = toy or Quadratics(clients=40)
    keys = ("store", "resume", "evaluate_fn", "observers")
    given = {key: rest.pop(key) for key in keys if key in rest}
    settings = {"num_rounds": 12, "seed": 4, "fraction_evaluate": 0.1, **rest}
    return fl.simulate(
        toy.client,
        toy.clients,
        strategy=strategy,
        config=fl.ServerConfig(**settings),
        system=system,
        coordinator=coordinator,
        engine=engine,
        workers=workers,
        progress=False,
        **given,
    )


def story(history):
    return [replace(record, seconds=0.0) for record in history.rounds]


@pytest.mark.parametrize(
    "strategy",
    [fl.FedAvg(), fl.FedAvg(server=fl.adam()), fl.FedProx(mu=0.1), fl.FedAvg(reducer=fl.Median())],
    ids=repr,
)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_buffer_of_all_who_train_at_equal_speed_is_fedavg_to_the_bit(strategy, steps):
    settings = fl.Buffered(concurrency=10, buffer_size=10)
    buffered = run(settings, system=fl.SystemModel(), strategy=strategy, num_rounds=steps)
    rounds = run(None, system=None, strategy=strategy, fraction_fit=0.25, num_rounds=steps)
    assert buffered.parameters == rounds.parameters
    assert [r.loss for r in buffered.rounds] == [r.loss for r in rounds.rounds]
    assert all(record.staleness == 0 for record in buffered.rounds)


def test_mixing_in_full_one_after_the_other_is_fedavg_with_one_client_a_round():
    one = run(fl.FedAsync(concurrency=1, mixing=1.0), system=fl.SystemModel())
    rounds = run(None, system=None, fraction_fit=0.0)
    assert one.parameters == rounds.parameters


class Sometimes(fl.NumPyClient):
    """A quadratic with its own loop; every fifth client fails when it is really played."""

    def __init__(self, index):
        self.index = index
        self.a, self.b = Quadratics(clients=40, dim=3).problem(index)

    def fit(self, parameters, config):
        if self.index % 5 == 0:
            raise RuntimeError("a multiple of five")
        w = parameters[0]
        for _ in range(3):
            w = w - 0.1 * self.a * (w - self.b)
        return [w], 1 + self.index % 3, {}


def played_as_time_goes_by(settings, steps, system=HEAVY, seed=4):
    """The asynchronous method written out: one heap, and every client trains on the model it was given when asked."""
    leader = Streams(settings, fl.ServerConfig(num_rounds=steps, seed=seed), Everyone(40))
    w, heap, order, now, times = np.zeros(3), [], 0, 0.0, []
    given = {}

    def ask(clients, step):
        nonlocal order
        for client in clients:
            turn = system.turn(client, step, now, seed=seed)
            heapq.heappush(heap, (turn.ends_s, order, client, turn.lost, step))
            given[client] = w.copy()
            order += 1

    for step in range(1, steps + 1):
        ask(leader.begin(now).clients, step)
        top, bottom, closed = np.zeros(3), 0.0, False
        while not closed:
            if heap[0][0] > now:
                ask(leader.fill(), step)
            now, _, client, lost, version = heapq.heappop(heap)
            start, index = given[client], int(client)
            failed = lost or index % 5 == 0
            decision = leader.receipt(Receipt(client, version, 0, "failed" if failed else "done"))
            if decision.accept:
                new, examples, _ = Sometimes(index).fit([start], {})
                change = new[0] - (w if settings.mixes else start)
                top += examples * settings.discount(step - version) * change
                bottom += examples
            closed = decision.close
        leader.close()
        w = w + top / bottom
        leader.finish({})
        times.append(now)
    return w, times


@pytest.mark.parametrize("settings", [BUFFERED, ASYNC, fl.Buffered(concurrency=20, buffer_size=3, max_staleness=1)])
def test_playing_afterwards_is_playing_as_time_goes_by(settings):
    history = fl.simulate(
        lambda context: Sometimes(context.partition_id),
        40,
        config=fl.ServerConfig(num_rounds=15, seed=4, fraction_evaluate=0.0),
        initial_parameters=[np.zeros(3)],
        system=HEAVY,
        coordinator=settings,
        engine="serial",
        progress=False,
    )
    w, times = played_as_time_goes_by(settings, 15)
    assert np.allclose(history.parameters["0"], w, rtol=1e-12)
    assert [record.simulated_s for record in history.rounds] == times
    assert any("multiple of five" in f.reason for record in history.rounds for f in record.failures)
    assert max(record.staleness for record in history.rounds) > 0.5


@pytest.mark.parametrize("settings", [BUFFERED, ASYNC], ids=repr)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_pool_of_any_size_tells_the_same_story_as_serial(settings, workers):
    toy, strategy = WithHead(clients=30), fl.FedAvg(shared="backbone.*")
    serial = run(settings, toy, strategy=strategy)
    pool = run(settings, toy, strategy=strategy, engine="pool", workers=workers)
    assert pool.parameters == serial.parameters
    assert story(pool) == story(serial)


TIES = fl.SystemModel(work=lambda client: 1.0 + int(client) % 2)


@pytest.mark.parametrize("settings", [BUFFERED, ASYNC], ids=repr)
@pytest.mark.parametrize(("every", "system"), [(1, HEAVY), (4, HEAVY), (1, TIES)])
def test_a_resumed_run_ends_in_the_bits_of_the_undisturbed(settings, every, system, tmp_path):
    toy, strategy = WithHead(clients=30), fl.FedAvg(shared="backbone.*", server=fl.adam())
    rest = {"toy": toy, "strategy": strategy, "system": system, "checkpoint_every": every, "fraction_evaluate": 0.0}
    whole = run(settings, num_rounds=20, **rest)
    run(settings, num_rounds=8, store=tmp_path / "runs.db", **rest)
    resumed = run(settings, num_rounds=20, store=tmp_path / "runs.db", resume="last", **rest)
    assert resumed.parameters == whole.parameters
    assert story(resumed) == story(whole)


@pytest.mark.parametrize("coordinator", [None, fl.Buffered(concurrency=24, buffer_size=12), ASYNC], ids=repr)
def test_blocks_of_clients_agree_with_the_loop_at_the_same_times(coordinator):
    torch = pytest.importorskip("torch")

    def client(context):
        torch.manual_seed(0)
        x = np.random.default_rng(context.partition_id).standard_normal((12, 4)).astype(np.float32)
        loss, optimizer = torch.nn.CrossEntropyLoss(), lambda params: torch.optim.SGD(params, lr=0.1)
        return fl.TorchClient(torch.nn.Linear(4, 3), loss, optimizer, (x, x[:, :3].argmax(1)), batch_size=5)

    # Speeds of two kinds: so many arrive at once that there are blocks, and of two models.
    system = fl.SystemModel(work=lambda name: 1.0 + 0.5 * (int(name) % 2))
    loop, blocks = (
        fl.simulate(
            client,
            40,
            config=fl.ServerConfig(num_rounds=6, seed=4, fraction_evaluate=0.0),
            system=system,
            coordinator=coordinator,
            engine=engine,
            workers=1,
            progress=False,
        )
        for engine in ("serial", "vmap")
    )
    for name, values in loop.parameters.items():
        assert np.allclose(blocks.parameters[name], values, rtol=1e-4, atol=1e-5)
    assert [r.simulated_s for r in blocks.rounds] == [r.simulated_s for r in loop.rounds]
    assert [r.staleness for r in blocks.rounds] == [r.staleness for r in loop.rounds]
    assert coordinator is None or max(r.staleness for r in loop.rounds) > 0


def test_another_coordinator_is_another_run(tmp_path):
    run(store=tmp_path / "runs.db")
    for other in (None, replace(BUFFERED, buffer_size=5), ASYNC):
        with pytest.raises(ConfigError, match="not the run that was begun"):
            run(other, store=tmp_path / "runs.db", resume="last")


def test_only_the_models_of_turns_under_way_are_kept():
    store = MemoryStore()
    history = run(store=store, num_rounds=20)
    _, found = checkpoint.read(store.checkpoint(history.run, 20))
    versions = {version for _, version in found["training"]}
    assert set(found["timeline"]["tasks"]) == {str(version) for version in versions}
    assert 1 < len(versions) < 9
    equal = run(fl.Buffered(concurrency=4, buffer_size=4), system=fl.SystemModel(), store=store)
    assert checkpoint.read(store.checkpoint(equal.run, 12))[1]["timeline"]["tasks"] == {}


def test_updates_that_are_too_stale_are_never_played():
    settings = fl.Buffered(concurrency=20, buffer_size=2, max_staleness=3)
    history = run(settings, num_rounds=40)
    assert max(record.staleness for record in history.rounds) <= 3
    assert max(record.staleness for record in run(replace(settings, max_staleness=None), num_rounds=40).rounds) > 3


def test_slow_clients_do_not_hold_up_an_asynchronous_run():
    tail = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 2.0))
    rounds = run(None, system=tail, num_rounds=8, fraction_fit=0.25)
    steps = run(fl.Buffered(concurrency=10, buffer_size=10), system=tail, num_rounds=8)
    assert steps.simulated_s < rounds.simulated_s / 3


def test_where_everybody_is_away_time_passes():
    windows = fl.SystemModel(availability=fl.Trace.of([(0, "x", 1), (3, "x", 0), (100, "x", 1)]), seconds_per_unit=2.0)
    history = run(fl.Buffered(concurrency=6, buffer_size=6), system=windows, num_rounds=2)
    assert [record.simulated_s for record in history.rounds] == [2.0, 102.0]
    assert len(history.rounds[1].failures) == 6


def test_a_buffer_larger_than_the_federation_is_stepped_with_what_there_is():
    toy = Quadratics(clients=5)
    history = run(fl.Buffered(concurrency=3, buffer_size=50), toy, system=fl.SystemModel(), num_rounds=3)
    assert [record.participants for record in history.rounds] == [5, 5, 5]
    assert [record.simulated_s for record in history.rounds] == [2.0, 4.0, 6.0]


class Some(fl.NumPyClient):
    """Clients of which some have no examples, and some raise."""

    def __init__(self, index, empty, broken):
        self.index, self.empty, self.broken = index, empty, broken

    def fit(self, parameters, config):
        if self.broken(self.index):
            raise ValueError("a typo")
        return [parameters[0] + 1], 0 if self.empty(self.index) else 5, {}


def some(clients, coordinator, empty=lambda index: False, broken=lambda index: False):
    return fl.simulate(
        lambda context: Some(context.partition_id, empty, broken),
        clients,
        config=fl.ServerConfig(num_rounds=20, seed=1, fraction_evaluate=0.0),
        initial_parameters=[np.zeros(2)],
        system=HEAVY,
        coordinator=coordinator,
        engine="serial",
        progress=False,
    )


@pytest.mark.parametrize("coordinator", [ASYNC, fl.Buffered(concurrency=4, buffer_size=1)], ids=repr)
def test_clients_without_examples_make_no_step_and_end_no_run(coordinator):
    history = some(8, coordinator, empty=lambda index: index % 2)
    assert history.ended == "finished"
    assert {record.participants for record in history.rounds if record.round} == {1}
    reasons = {failure.reason for record in history.rounds for failure in record.failures}
    assert "has no examples" in reasons
    with pytest.raises(TooFewClients, match="has no examples"):
        some(8, coordinator, empty=lambda index: True)


def test_of_many_clients_that_all_fail_not_all_are_asked():
    asked = []
    with pytest.raises(RoundError, match=r"\d+ clients failed and none answered; the first: ValueError: a typo"):
        some(5000, fl.Buffered(concurrency=20, buffer_size=10), broken=lambda index: asked.append(index) or True)
    assert len(asked) < 500


def test_a_run_in_which_everybody_fails_ends_with_a_sentence():
    with pytest.raises(TooFewClients, match="0 updates arrived and 40 clients failed; client"):
        run(system=fl.SystemModel(dropout=1.0))


def test_a_run_stops_at_its_target_and_tells_when_that_was():
    toy = Quadratics(clients=40, heterogeneous=False)

    def distance(number, parameters, config):
        return float(np.abs(parameters["w"] - 0.0).max()), {}

    history = run(toy=toy, evaluate_fn=distance, target=1e9, fraction_evaluate=0.0)
    assert history.ended == "target"
    assert len(history.rounds) == 2
    assert history.simulated_s == history.rounds[-1].simulated_s > 0


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ({"system": None}, "Buffered takes updates as they come, and without time"),
        ({"strategy": fl.Scaffold()}, "which Scaffold has no room for"),
        ({"strategy": fl.FedDyn()}, "which FedDyn has no room for"),
        ({"strategy": fl.FedNova()}, "which FedNova has no room for"),
        ({"fraction_fit": 0.5}, "concurrency says how many"),
        ({"coordinator": "buffered"}, "coordinator must be one such as"),
    ],
)
def test_what_cannot_be_asynchronous_is_refused_before_the_run(rest, said):
    store = MemoryStore()
    with pytest.raises(ConfigError, match=said):
        run(**rest, store=store)
    assert store.runs() == []


class OneTask(Engine):
    """An engine that plays clients of one task at a time."""

    def __init__(self, inner):
        self.inner, self.calls = inner, []

    def play(self, asks, states, progress=None, *, more=False, meanwhile=None):
        assert len({id(ask.task) for ask in asks}) == 1
        self.calls.append(more)
        return self.inner.play(asks, states, progress, more=more, meanwhile=meanwhile)

    def close(self):
        self.inner.close()


def test_an_engine_that_takes_one_task_at_a_time_gives_the_same_bits():
    toy, strategy = Quadratics(clients=40), fl.FedAvg()
    config = fl.ServerConfig(num_rounds=1, seed=4)
    sums = []
    for wrap in (lambda engine: engine, OneTask):
        store = MemoryStore()
        store.create(RunInfo("run", "run", 0.0, "running", {}))
        engine = wrap(SerialEngine(Program(toy.client, strategy, 4, 40, {})))
        course = Course.of(strategy, config, Everyone(40), HEAVY, BUFFERED)
        virtual = VirtualPlayers(engine, store, "run", say=lambda number, text: None)
        players = course.players(virtual, strategy)
        state = strategy.init(toy_start(toy))
        found = []
        for number in range(1, 8):
            task = strategy.task(state, number)
            phase = course.coordinator.begin(course.timeline.now_s)
            course.coordinator.config = replace(config, num_rounds=9)
            tally, _ = finished(players.fit(phase, task, course.coordinator))
            course.coordinator.close()
            course.coordinator.finish({})
            found.append(tally.accumulator.result()["delta"].total.values.tobytes())
        sums.append(found)
    assert sums[0] == sums[1]
    assert True in engine.calls


def toy_start(toy):
    return Arrays.of({"w": np.zeros(toy.dim)})
