"""Clients' states: as many in memory as fit, the others in a file; what is kept is what some checkpoint needs."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import umbel as fl
from umbel.errors import ConfigError, StoreFull
from umbel.stores import MemoryStore, RunInfo, SQLiteStore
from umbel.stores.states import States
from umbel.testing import Quadratics, WithHead, check_store


@pytest.mark.parametrize("state_bytes", [0, 1200])
def test_a_bounded_store_keeps_the_laws(state_bytes):
    check_store(lambda: MemoryStore(state_bytes=state_bytes))


class Model:
    """Every state of every round, pruned by the words of the rule."""

    def __init__(self):
        self.all, self.rows, self.checkpoints = {}, {}, []

    def commit(self, round, states, checkpoint, keep):
        self.all |= {(client, round): state for client, state in states.items()}
        if checkpoint:
            self.checkpoints = [n for n in self.checkpoints if n in keep] + [round]
        # What a client remembers at each checkpoint, and now.
        needed = {(client, self.newest(client, at)) for client in CLIENTS for at in (*self.checkpoints, round)}
        self.rows = {key: state for key, state in self.all.items() if key in needed}

    def rewind(self, round):
        self.all = {key: state for key, state in self.all.items() if key[1] <= round}
        self.rows = {key: state for key, state in self.rows.items() if key[1] <= round}
        self.checkpoints = [n for n in self.checkpoints if n <= round]

    def newest(self, client, round):
        return max((n for c, n in self.all if c == client and n <= round), default=None)

    def state(self, client, round):
        newest = self.newest(client, round)
        return None if newest is None else self.all[client, newest]


CLIENTS = "abcde"
COMMIT = st.tuples(
    st.sets(st.sampled_from(CLIENTS)), st.booleans(), st.sets(st.integers(0, 20), max_size=3), st.integers(0, 900)
)
STEPS = st.lists(st.one_of(COMMIT, st.integers(0, 3), st.sampled_from(CLIENTS)), max_size=25)


def rows_of(store):
    """Every state that is kept, wherever it is."""
    if isinstance(store, MemoryStore):
        return rows_in(store._states)
    db = sqlite3.connect(store.path)
    rows = db.execute("SELECT client, round, body FROM states").fetchall()
    db.close()
    return {(client, number): state for client, number, state in rows}


def rows_in(states):
    recent = {(client, n): state for (_, client), some in states._recent.items() for n, state in some.items()}
    rows = [] if states._file is None else states._file.execute("SELECT client, round, body FROM states").fetchall()
    spilled = {(client, number): state for client, number, state in rows}
    assert not recent.keys() & spilled.keys()
    return spilled | recent


@settings(max_examples=30)
@given(STEPS)
def test_any_store_keeps_what_a_checkpoint_needs_and_nothing_else(steps):
    with tempfile.TemporaryDirectory() as folder:
        _keeps_what_is_needed(steps, Path(folder))


def _keeps_what_is_needed(steps, folder):
    model = Model()
    stores = [MemoryStore(), MemoryStore(state_bytes=0), MemoryStore(state_bytes=2500), SQLiteStore(folder / "runs.db")]
    for store in stores:
        store.create(RunInfo("run", "run", 0.0, "running", {}))
        store.commit("run", {"round": 0}, round=0, checkpoint=[b"x"], states={}, keep=set())
    model.commit(0, {}, True, set())
    number = 0
    for step in steps:
        if isinstance(step, tuple):
            number += 1
            clients, checkpoint, keep, size = step
            states = {client: f"{client}{number}".encode() + bytes(size) for client in sorted(clients)}
            keep |= set(model.checkpoints[-1:])
            model.commit(number, states, checkpoint, keep)
            for store in stores:
                parts = [b"x"] if checkpoint else None
                store.commit("run", {"round": number}, round=number, checkpoint=parts, states=states, keep=keep)
        elif isinstance(step, int):
            number = model.checkpoints[max(len(model.checkpoints) - 1 - step, 0)]
            model.rewind(number)
            for store in stores:
                store.rewind("run", number)
        else:
            for at in (*model.checkpoints, number):
                assert {store.state("run", step, at) for store in stores} == {model.state(step, at)}
    assert all(rows_of(store) == model.rows for store in stores)
    for store in stores:
        store.close()


def test_what_lies_in_the_file_is_pruned_for_a_client_that_is_in_memory_again():
    states = States(1100)
    states.put("run", 1, {"a": bytes(300)})
    states.put("run", 2, {"b": bytes(300)})
    states.put("run", 3, {"a": bytes(310)})
    assert rows_in(states).keys() == {("a", 1), ("b", 2), ("a", 3)}
    states.prune("run", {0, 3}, {3})
    assert rows_in(states).keys() == {("b", 2), ("a", 3)}
    states.close()


@pytest.mark.parametrize("most_bytes", [0, 10**6])
def test_a_run_that_begins_again_is_pruned_as_one_that_begins(most_bytes):
    states = States(most_bytes)
    for _ in range(2):
        for number in (1, 2, 3):
            states.put("run", number, {"a": bytes(number)})
        states.prune("run", {0, 2}, {2})
        assert rows_in(states).keys() == {("a", 2), ("a", 3)}
        states.rewind("run", -1)
        assert states.get("run", "a", 9) is None
    states.close()


@pytest.mark.parametrize("checkpoint_every", [1, 4])
def test_states_on_the_disk_do_not_grow_with_rounds_when_the_best_model_is_an_early_one(tmp_path, checkpoint_every):
    class Remembers(fl.NumPyClient):
        def __init__(self, context):
            self.state = context.state

        def fit(self, parameters, config):
            self.state["round"] = config["server_round"]
            return [parameters[0] + 1.0], 1, {}

    store = SQLiteStore(tmp_path / "runs.db")
    fl.simulate(
        Remembers,
        5,
        config=fl.ServerConfig(14, seed=1, fraction_evaluate=0.0, checkpoint_every=checkpoint_every),
        evaluate_fn=lambda number, arrays, config: (abs(number - 1.0), {}),
        initial_parameters=[np.zeros(2)],
        store=store,
        engine="serial",
        progress=False,
    )
    (info,) = store.runs()
    assert len(rows_of(store)) <= 5 * len(store.checkpoints(info.id))
    store.close()


def run(toy, store, strategy, resume=None, rounds=6):
    config = fl.ServerConfig(rounds, fraction_fit=0.4, seed=3)
    return fl.simulate(
        toy.client,
        20,
        strategy=strategy,
        config=config,
        store=store,
        resume=resume,
        engine="serial",
        progress=False,
    )


@pytest.mark.parametrize(
    ("toy", "strategy"),
    [(Quadratics(clients=20), fl.Scaffold()), (WithHead(clients=20), fl.FedAvg(shared="backbone.*"))],
    ids=["control variates", "private head"],
)
def test_a_limit_changes_no_bit_and_a_run_resumes(toy, strategy):
    small = MemoryStore(state_bytes=2000)
    unlimited = run(toy, None, strategy)
    assert run(toy, MemoryStore(state_bytes=0), strategy).parameters == unlimited.parameters
    run(toy, small, strategy, rounds=3)
    assert run(toy, small, strategy, "last").parameters == unlimited.parameters


MANY = """
import sys
from umbel.stores import MemoryStore, RunInfo
store = MemoryStore(state_bytes=int(sys.argv[1]))
store.create(RunInfo("run", "run", 0.0, "running", {}))
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
store.commit("run", {}, round=0, checkpoint=[b"x"], states={}, keep=set())
before = peak()
for number in range(1, 51):
    states = {str(client): bytes([number]) * 4096 for client in range(1000 * number - 1000, 1000 * number)}
    store.commit("run", {}, round=number, checkpoint=[b"x"], states=states, keep={number - 1})
assert all(store.state("run", str(c), 50) == bytes([c // 1000 + 1]) * 4096 for c in range(0, 50_000, 97))
print((peak() - before) / 1024)
"""


def grown_mb(state_bytes):
    ran = subprocess.run([sys.executable, "-c", MANY, str(state_bytes)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return float(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_fifty_thousand_clients_of_four_kilobytes_fit_into_a_limit_of_sixteen_megabytes():
    assert grown_mb(16 * 2**20) < 50
    assert grown_mb(2**40) > 190


FILES = """
import os
from umbel.stores.states import States
states = States(0)
states.put("run", 1, {str(client): bytes(2**20) for client in range(8)})
assert states.get("run", "3", 1) == bytes(2**20)
links = [f"/proc/self/fd/{number}" for number in range(3, 20)]
print(*(os.readlink(link) for link in links if os.path.lexists(link)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="open files are listed in /proc")
def test_what_is_in_the_file_has_no_name(tmp_path):
    env = {**os.environ, "SQLITE_TMPDIR": str(tmp_path)}  # read once in a process
    ran = subprocess.run([sys.executable, "-c", FILES], capture_output=True, text=True, timeout=60, env=env)
    assert ran.returncode == 0, ran.stderr
    assert f"{tmp_path}/" in ran.stdout
    assert "(deleted)" in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_room_is_a_sentence():
    store = States(0)
    store.put("run", 1, {"0": b"x"})
    store._file.execute("PRAGMA max_page_count=20")
    with pytest.raises(StoreFull, match=r"no room left for states of clients beyond 0 bytes .*; set TMPDIR"):
        store.put("run", 2, {"1": bytes(10**6)})
    assert store.get("run", "0", 2) == b"x"
    store.close()


@pytest.mark.parametrize("state_bytes", [-1, 1.5, True, None])
def test_a_limit_that_is_none_is_refused(state_bytes):
    with pytest.raises(ConfigError, match="state_bytes must be a whole number of at least 0"):
        MemoryStore(state_bytes=state_bytes)


def test_arrays_of_a_client_come_back_from_the_file():
    class Counts(fl.NumPyClient):
        def __init__(self, state):
            self.state = state

        def fit(self, parameters, config):
            turns = self.state.get("turns", np.zeros(3))
            self.state["turns"] = turns + 1
            return [parameters[0] + turns.sum()], 1

    history = fl.simulate(
        lambda context: Counts(context.state),
        4,
        initial_parameters=[np.zeros(1)],
        config=fl.ServerConfig(4, seed=1),
        store=MemoryStore(state_bytes=0),
        engine="serial",
        progress=False,
    )
    assert history.parameters["0"].tolist() == [3.0 * (0 + 1 + 2 + 3)]
