"""Asynchronous runs in bad weather: every step is what the log says it is made of, and nothing is in two steps."""

import copy
import os

import pytest
from tests.chaos.world import World

import umbel as fl
from umbel.clients import as_client
from umbel.message import Ask, ClientState, Context
from umbel.reducers import Reduction
from umbel.runtimes import checkpoint
from umbel.runtimes.program import turn_key
from umbel.runtimes.staleness import counted
from umbel.stores import MemoryStore
from umbel.testing import WithHead

SEEDS = int(os.environ.get("UMBEL_CHAOS_SEEDS", "200")) // 4
BLOCKS = 10
NAMES = [str(index) for index in range(6)]
HEADS = WithHead(clients=6)
STRATEGY = fl.FedAvg(shared="backbone.*", server=fl.momentum(0.5))
BAD_WEATHER = {"node_crashes_per_s": 0.05, "server_crashes_per_s": 0.025, "breaks": 0.02, "repeats": 0.005}
BUFFERED = fl.Buffered(concurrency=4, buffer_size=2)
STEPS = 12


def order(coordinator, **more):
    config = fl.ServerConfig(num_rounds=STEPS, seed=3, min_available_clients=2, **more)
    return {"strategy": STRATEGY, "config": config, "coordinator": coordinator}


def replayed(coordinator, store, run):
    """The model from the log alone: each step from just the updates that it names, each on the model that it began
    from, with the state that its client had."""
    state, _ = checkpoint.read(store.checkpoint(run, 0))
    tasks, memories, seen = {}, {}, set()
    for event in store.events(run):
        if event["kind"] != "round" or not event["round"]:
            continue
        step = event["round"]
        tasks[step] = STRATEGY.task(state, step)
        total = STRATEGY.reducer.start(STRATEGY.schema(tasks[step], {}))
        for client, version in event["versions"]:
            assert (client, version) not in seen, f"the update of {client} on version {version} is in two steps"
            seen.add((client, version))
            ask = Ask(client, "fit", tasks[version])
            memory = copy.deepcopy(memories.get(client, ClientState()))
            ctx = Context(client, int(client), HEADS.clients, round=version, memory=memory, key=turn_key(3, ask))
            update, memories[client] = STRATEGY.local(ask, as_client(HEADS.client(ctx)), ctx)
            onto = tasks[step].arrays if coordinator.mixes and version < step else None
            scale = coordinator.discount(step - version)
            stale = Ask(client, "fit", tasks[version], scale=scale, onto=onto)
            total.fold(counted(update.groups, stale))
        state = STRATEGY.step(state, Reduction(total.result(), len(NAMES)))
    return state.params


class Everything(MemoryStore):
    """A store that keeps the first checkpoint, too."""

    def commit(self, run, event, *, keep, **more):
        super().commit(run, event, keep={*keep, 0}, **more)


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize(
    ("coordinator", "more"),
    [(BUFFERED, {}), (fl.FedAsync(concurrency=4), {}), (fl.Tiered(num_tiers=2, waits_for=0.6), {"fraction_fit": 0.5})],
    ids=["buffered", "mixed", "tiered"],
)
def test_under_any_weather_each_step_is_exact_over_the_updates_that_the_log_names(coordinator, more, block):
    crashes = stale = 0
    for seed in range(block, SEEDS, BLOCKS):
        store = Everything()
        world = World(seed, HEADS.client, NAMES, order(coordinator, **more), store, **BAD_WEATHER)
        history = world.play()
        assert history.ended == "finished"
        assert [r.round for r in history.rounds if r.round] == list(range(1, STEPS + 1)), f"seed {seed}: a step is lost"
        assert history.parameters == replayed(coordinator, store, history.run), f"seed {seed}: a wrong sum"
        crashes += world.server_crashes + world.node_crashes
        stale += max(record.staleness for record in history.rounds) > 0
    assert crashes, "nothing ever crashed: these seeds test nothing"
    assert stale, "no update was ever stale"


def test_a_finished_turn_is_not_trained_again_because_its_node_lost_the_link():
    for seed in range(40):
        world = World(seed, HEADS.client, NAMES, order(BUFFERED), MemoryStore(), breaks=0.05)
        world.play()
        for worker in world.workers:
            turns = [turn for turn in worker.turns if turn[0] == "fit"]
            assert len(set(turns)) == len(turns), f"seed {seed}: {worker.name} trained twice on the same model"


def test_what_is_under_way_when_the_server_dies_is_not_trained_again():
    crashes = 0
    for seed in range(40):
        plan = order(BUFFERED, fraction_evaluate=0.0)
        world = World(seed, HEADS.client, NAMES, plan, MemoryStore(), server_crashes_per_s=0.3, work_s=1.0)
        history = world.play()
        for worker in world.workers:
            turns = [turn for turn in worker.turns if turn[0] == "fit"]
            assert len(set(turns)) == len(turns), f"seed {seed}: {worker.name} trained twice on the same model"
        crashes += world.server_crashes
        assert [record.round for record in history.rounds if record.round] == list(range(1, STEPS + 1))
    assert crashes > 40


def test_in_fine_weather_nobody_is_trained_with_in_vain():
    for seed in range(10):
        world = World(seed, HEADS.client, NAMES, order(BUFFERED), MemoryStore())
        history = world.play()
        turns = sum(kind == "fit" for worker in world.workers for kind, _, _ in worker.turns)
        folded = sum(record.participants for record in history.rounds)
        assert folded == STEPS * BUFFERED.buffer_size
        # What is under way when the last step is made is called off.
        assert folded <= turns <= folded + BUFFERED.concurrency
