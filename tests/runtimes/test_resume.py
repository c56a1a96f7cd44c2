"""`kill -9` at any instant costs at most the round in flight, and a resumed run ends in the same bits."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.deadly import played

import umbel as fl
from umbel.errors import CheckpointCorrupt, ConfigError, StoreError, StoreFull
from umbel.stores import MemoryStore, SQLiteStore
from umbel.stores.link import verify
from umbel.testing import WithHead, check_store


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_stores_keep_the_laws(kind, tmp_path):
    check_store(MemoryStore if kind == "memory" else lambda: SQLiteStore(tmp_path / "runs.db"))


# The program under test: a private head and control variates, so that client states count, and a store or strategy that
# kills its own process at the n-th visit of a named place.
PROGRAM = """
import sys
import umbel as fl
from tests.deadly import Deadly, Fuse
from umbel.stores import SQLiteStore
from umbel.testing import WithHead

path, place, countdown, engine, resume = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
here = Fuse(place, countdown)

def observe(event):
    here(event["kind"])

toy = WithHead(clients=4)
history = fl.simulate(
    toy.client, 4, strategy=fl.Scaffold(shared="backbone.*"),
    config=fl.ServerConfig(num_rounds=5, fraction_fit=0.5, seed=3), engine=engine, workers=2,
    store=Deadly(SQLiteStore(path), here), resume=resume or None, progress=False, observers=[observe])
print(history.parameters.digest, history.loss, len(history.rounds), history.ended)
"""
PLACES = [
    ("created", 1),
    ("begun", 1),
    ("progress", 1),
    ("progress", 7),
    ("state", 3),
    ("between fold and checkpoint", 1),
    ("between fold and checkpoint", 2),
    ("between fold and checkpoint", 4),
    ("after checkpoint", 1),
    ("after checkpoint", 3),
    ("before append", 1),
    ("after append", 1),
    ("round", 3),
    ("status", 1),
]


def program(tmp_path, place="nowhere", countdown=1, engine="serial", resume="", database="runs.db"):
    return played(tmp_path, PROGRAM, tmp_path / database, place, countdown, engine, resume)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    done = program(tmp_path_factory.mktemp("undisturbed"))
    assert done.returncode == 0, done.stderr
    return done.stdout


# The places in the parent are the same for every engine: a few of them are enough for the pool.
VISITS = [("serial", *visit) for visit in PLACES] + [("pool", *visit) for visit in PLACES[3:10:2]]


@pytest.mark.parametrize(("engine", "place", "countdown"), VISITS)
def test_a_run_killed_anywhere_resumes_to_the_bits_of_the_undisturbed_one(
    engine, place, countdown, tmp_path, undisturbed
):
    killed = program(tmp_path, place, countdown, engine)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not killed.stdout
    run = SQLiteStore(tmp_path / "runs.db").runs()[0].id
    resumed = program(tmp_path, engine=engine, resume=run)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == undisturbed


def test_a_run_killed_twice_resumes_all_the_same(tmp_path, undisturbed):
    program(tmp_path, "between fold and checkpoint", 3)
    run = SQLiteStore(tmp_path / "runs.db").runs()[0].id
    assert program(tmp_path, "between fold and checkpoint", 2, resume=run).returncode == -signal.SIGKILL
    assert program(tmp_path, resume=run).stdout == undisturbed


@pytest.mark.parametrize("place", ["nowhere", "rewound", "forgotten"])
def test_the_log_keeps_what_was_said_of_rounds_that_were_done_again(place, tmp_path, undisturbed):
    store = SQLiteStore(tmp_path / "runs.db")
    program(tmp_path, "progress", 7)
    run = store.runs()[0].id
    store.append(run, {"kind": "warning", "round": 3, "text": "said before the crash"})
    before = store.log(run)
    assert program(tmp_path, place, resume=run).returncode == (0 if place == "nowhere" else -signal.SIGKILL)
    assert program(tmp_path, resume=run).stdout == undisturbed
    log = store.log(run)
    assert log[: len(before)] == before
    assert [event["kind"] for event in log].count("rewound") == 1
    assert "said before the crash" not in [event.get("text") for event in store.events(run)]
    assert verify(run, log).problem is None


def simulate(path, rounds=4, resume=None, **arguments):
    toy = WithHead(clients=3)
    config = fl.ServerConfig(**{"num_rounds": rounds, "seed": 5, **arguments.pop("config", {})})
    given = {"strategy": fl.FedAvgM(shared="backbone.*"), "engine": "serial", "progress": False, **arguments}
    return fl.simulate(toy.client, 3, config=config, store=path, resume=resume, **given)


def test_more_rounds_can_be_added_to_a_finished_run(tmp_path):
    whole = simulate(None, rounds=6)
    first = simulate(tmp_path / "runs.db", rounds=3)
    second = simulate(tmp_path / "runs.db", rounds=6, resume=first.run)
    assert second.parameters == whole.parameters
    assert [r.round for r in second.rounds] == [1, 2, 3, 4, 5, 6]
    assert second.loss == whole.loss


def test_a_run_resumes_where_checkpoints_are_rarer_than_rounds(tmp_path):
    sparse = {"checkpoint_every": 3}
    whole = simulate(None, rounds=6, config=sparse)
    first = simulate(tmp_path / "runs.db", rounds=4, config=sparse)
    assert simulate(tmp_path / "runs.db", rounds=6, resume=first.run, config=sparse).parameters == whole.parameters


def damage(path, run, round):
    with sqlite3.connect(path) as db:
        (body,) = db.execute("SELECT body FROM checkpoints WHERE run=? AND round=? AND part=1", (run, round)).fetchone()
        body = bytearray(body)
        body[-1] ^= 1
        db.execute("UPDATE checkpoints SET body=? WHERE run=? AND round=? AND part=1", (bytes(body), run, round))


def test_a_damaged_checkpoint_falls_back_to_the_one_before_with_the_client_states_of_its_time(tmp_path):
    path = tmp_path / "runs.db"
    whole = simulate(None, rounds=6)
    first = simulate(path, rounds=4)
    damage(path, first.run, 4)
    second = simulate(path, rounds=6, resume=first.run)
    assert second.parameters == whole.parameters
    assert second.loss == whole.loss
    assert any("the checkpoint of round 4 is damaged" in text for text in second.warnings)


def test_if_every_checkpoint_is_damaged_a_typed_error_says_so(tmp_path):
    path = tmp_path / "runs.db"
    first = simulate(path)
    for number in SQLiteStore(path).checkpoints(first.run):
        damage(path, first.run, number)
    with pytest.raises(CheckpointCorrupt, match="no checkpoint of run"):
        simulate(path, rounds=9, resume=first.run)


def test_a_full_disk_ends_the_run_in_a_sentence_and_nothing_finished_is_lost(tmp_path):
    path = tmp_path / "runs.db"
    store = SQLiteStore(path)
    whole = simulate(None, rounds=200)
    pages = store._file.db.execute("PRAGMA page_count").fetchone()[0]
    store._file.db.execute(f"PRAGMA max_page_count={pages + 12}")
    with pytest.raises(StoreFull, match=r"no room left to write .* Free some space and resume the run"):
        simulate(store, rounds=200)
    store._file.db.execute("PRAGMA max_page_count=1000000")
    run = store.runs()[0].id
    assert store.checkpoints(run)
    assert simulate(store, rounds=200, resume=run).parameters == whole.parameters


def test_another_plan_is_not_resumed_and_the_difference_is_named(tmp_path):
    path = tmp_path / "runs.db"
    first = simulate(path)
    with pytest.raises(ConfigError, match=r"config.fraction_fit was 1.0 and is now 0.5"):
        simulate(path, resume=first.run, config={"fraction_fit": 0.5})
    with pytest.raises(ConfigError, match=r"strategy.name was 'FedAvg' and is now 'Scaffold'"):
        simulate(path, resume=first.run, strategy=fl.Scaffold(shared="backbone.*"))


def test_an_unknown_run_and_a_file_that_is_no_store_are_named(tmp_path):
    simulate(tmp_path / "runs.db")
    with pytest.raises(StoreError, match="no single run 'nobody' to resume"):
        simulate(tmp_path / "runs.db", resume="nobody")
    (tmp_path / "text.db").write_text("this is no database, only a few words " * 100)
    with pytest.raises(StoreError, match="cannot use the store"):
        simulate(tmp_path / "text.db")
    with pytest.raises(StoreError, match="cannot use the store"):
        simulate(tmp_path / "nowhere" / "runs.db")


def test_the_last_two_checkpoints_and_the_best_are_kept(tmp_path):
    path = tmp_path / "runs.db"
    losses = iter([5.0, 1.0, 3.0, 4.0, 3.5, 6.0])
    history = simulate(path, rounds=5, evaluate_fn=lambda *_: (next(losses), {}), config={"fraction_evaluate": 0.0})
    assert SQLiteStore(path).checkpoints(history.run) == [1, 4, 5]


def test_a_resumed_run_needs_no_seed_given_twice(tmp_path):
    path = tmp_path / "runs.db"
    toy = WithHead(clients=3)
    arguments = {"store": path, "engine": "serial", "progress": False}
    first = fl.simulate(toy.client, 3, config=fl.ServerConfig(num_rounds=2), **arguments)
    again = fl.simulate(toy.client, 3, config=fl.ServerConfig(num_rounds=4), resume=first.run, **arguments)
    assert again.plan["config"]["seed"] == first.plan["config"]["seed"]


def test_no_single_update_is_left_in_store_output_or_temporary_files(tmp_path):
    marker = np.float64(7.251912373e-77).tobytes()
    script = tmp_path / "run.py"
    script.write_text(
        "import numpy as np, umbel as fl, sys\n"
        "class C(fl.NumPyClient):\n"
        "    def fit(self, p, config): return [p[0] + np.float64(7.251912373e-77)], 1, {}\n"
        "def client_fn(context):\n"
        "    class Other(C):\n"
        "        def fit(self, p, config): return [p[0] + 1.5], 1, {}\n"
        "    return C() if context.partition_id == 0 else Other()\n"
        "fl.simulate(client_fn, 3, config=fl.ServerConfig(num_rounds=1, seed=1), initial_parameters=[np.zeros(4)],\n"
        "            engine=sys.argv[1], workers=2, store=sys.argv[2], progress=True)\n"
    )
    for engine in ("serial", "pool"):
        work = tmp_path / engine
        work.mkdir()
        environment = {**os.environ, "TMPDIR": str(work)}
        command = [sys.executable, str(script), engine, str(work / "runs.db")]
        done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        assert marker not in done.stdout + done.stderr
        files = [path for path in Path(work).rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert marker not in path.read_bytes()


def test_a_run_that_was_given_more_rounds_is_resumed_to_them(tmp_path):
    arguments = {"store": tmp_path / "runs.db", "engine": "serial", "progress": False}
    toy = WithHead(clients=2)
    first = fl.simulate(toy.client, 2, config=fl.ServerConfig(num_rounds=2, seed=1), **arguments)
    longer = fl.ServerConfig(num_rounds=4, seed=1)
    fl.simulate(toy.client, 2, config=longer, resume=first.run, **arguments)
    assert SQLiteStore(tmp_path / "runs.db").runs()[0].plan["config"]["num_rounds"] == 4


def test_a_run_has_one_leader_at_a_time(tmp_path):
    path = tmp_path / "runs.db"
    toy = WithHead(clients=2)
    config = fl.ServerConfig(num_rounds=1, seed=1)
    run = fl.simulate(toy.client, 2, config=config, store=path, engine="serial", progress=False).run
    code = (
        "import sys; from umbel.stores import SQLiteStore; s = SQLiteStore(sys.argv[1]); s.claim(sys.argv[2]); "
        "print('mine', flush=True); sys.stdin.read()"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", code, str(path), run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert leader.stdout is not None
    assert leader.stdout.readline() == "mine\n"
    longer = fl.ServerConfig(num_rounds=2, seed=1)
    assert SQLiteStore(path).is_claimed(run)
    with pytest.raises(StoreError, match="is being run by another process"):
        fl.simulate(toy.client, 2, config=longer, store=path, resume=run, engine="serial", progress=False)
    leader.kill()
    leader.communicate()
    again = fl.simulate(toy.client, 2, config=longer, store=path, resume=run, engine="serial", progress=False)
    assert len(again.rounds) == 2
    assert not SQLiteStore(path).is_claimed(run)
