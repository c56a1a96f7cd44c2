"""Whatever the network and the machines do: no wrong sum, no hang, no finished round lost."""

import os

import numpy as np
import pytest
from tests.chaos.world import World

import umbel as fl
from umbel.arrays import Arrays
from umbel.clients import as_client
from umbel.message import Ask, ClientState, Context
from umbel.reducers import Reduction
from umbel.stores import MemoryStore
from umbel.testing import Quadratics, WithHead

SEEDS = int(os.environ.get("UMBEL_CHAOS_SEEDS", "200"))
BLOCKS = 10
NAMES = ["0", "1", "2", "3"]
HEADS = WithHead(clients=4)
SCAFFOLD = fl.Scaffold(shared="backbone.*")
BAD_WEATHER = {"node_crashes_per_s": 0.05, "server_crashes_per_s": 0.025, "breaks": 0.02, "repeats": 0.005}


def everybody(**more):
    return fl.ServerConfig(num_rounds=4, seed=3, min_available_clients=4, quorum=1.0, **more)


@pytest.fixture(scope="module")
def simulated():
    return fl.simulate(HEADS.client, 4, strategy=SCAFFOLD, config=everybody(), engine="serial", progress=False)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_under_any_weather_the_model_is_that_of_the_simulation(block, simulated):
    crashes = 0
    for seed in range(block, SEEDS, BLOCKS):
        order = {"strategy": SCAFFOLD, "config": everybody()}
        world = World(seed, HEADS.client, NAMES, order, MemoryStore(), **BAD_WEATHER)
        history = world.play()
        assert history.parameters == simulated.parameters, f"seed {seed}: a wrong sum"
        # (Losses may differ: an evaluation asks those that are there.)
        assert [r.participants for r in history.rounds] == [4] * 4, f"seed {seed}: a round is lost"
        crashes += world.server_crashes + world.node_crashes
    assert crashes, "nothing ever crashed: these seeds test nothing"


def test_a_world_depends_on_its_seed_alone():
    def told(seed):
        order = {"strategy": SCAFFOLD, "config": everybody()}
        world = World(seed, HEADS.client, NAMES, order, MemoryStore(), **BAD_WEATHER)
        world.play()
        turns = [worker.turns for worker in world.workers]
        return world.server_crashes, world.node_crashes, turns, world.rng.random()

    assert [told(seed) for seed in range(10)] == [told(seed) for seed in range(10)]


def replayed(strategy, toy, events):
    """The model from the log alone: each round's step over just the clients that it names."""
    state = strategy.init(Arrays.of({"w": np.zeros(toy.dim)}))
    for event in events:
        if event["kind"] != "round" or not event["round"]:
            continue
        task = strategy.task(state, event["round"])
        total = strategy.reducer.start(strategy.schema(task, {}))
        for client, _ in event["clients"]:
            ctx = Context(client, int(client), toy.clients, round=event["round"], memory=ClientState())
            update, _ = strategy.local(Ask(client, "fit", task), as_client(toy.client(ctx)), ctx)
            total.fold(update.groups)
        state = strategy.step(state, Reduction(total.result(), len(NAMES)))
    return state.params


@pytest.mark.parametrize("block", range(BLOCKS))
def test_with_deadlines_and_quorum_a_round_is_exact_over_those_that_the_log_names(block):
    toy, strategy = Quadratics(clients=6), fl.FedAvg(server=fl.momentum(0.7))
    partial = 0
    for seed in range(block, SEEDS // 2, BLOCKS):
        config = fl.ServerConfig(
            num_rounds=4,
            seed=seed,
            fraction_fit=0.5,
            over_selection=0.4,
            quorum=0.5,
            min_available_clients=3,
            round_timeout=3.0,
            round_retries=10_000,
        )
        store = MemoryStore()
        order = {"strategy": strategy, "config": config}
        world = World(seed, toy.client, [str(i) for i in range(6)], order, store, **BAD_WEATHER)
        history = world.play()
        events = store.events(history.run)
        assert history.parameters == replayed(strategy, toy, events), f"seed {seed}: a wrong sum"
        assert [r.round for r in history.rounds if r.round] == [1, 2, 3, 4], f"seed {seed}: a round is lost"
        partial += sum(record.participants < 3 for record in history.rounds)
    assert partial, "every round was whole: deadlines were not tested"


def test_a_finished_turn_is_not_trained_again_because_its_node_lost_the_link():
    order = {"strategy": fl.FedAvg(), "config": everybody()}
    heard = 0
    for seed in range(40):
        world = World(seed, Quadratics().client, NAMES, order, MemoryStore(), breaks=0.05)
        world.play()
        heard += world.all_nodes_ended
        played = [turn for worker in world.workers for turn in worker.turns if turn[0] == "fit"]
        assert len(played) == 16, f"seed {seed}: 4 rounds of 4 clients took {len(played)} trainings"
    # The last words may be lost like any others, and the server does not wait for ever.
    assert heard >= 24


def test_rounds_succeed_though_three_of_ten_nodes_are_killed_in_each():
    toy = Quadratics(clients=100)
    config = fl.ServerConfig(
        num_rounds=100, seed=1, quorum=0.5, min_available_clients=60, round_timeout=10.0, fraction_evaluate=0.0
    )
    order = {"strategy": fl.FedAvg(), "config": config}
    # Work takes 2 s on average and a round about 10: 0.035 deaths a second kill three of ten nodes in a round.
    world = World(
        7, toy.client, [str(i) for i in range(100)], order, MemoryStore(), node_crashes_per_s=0.035, work_s=2.0
    )
    history = world.play()
    assert len(history.rounds) == 100  # a round without its quorum would have ended the run: no retries are allowed
    assert world.node_crashes > 100 * 100 * 0.25
