"""`kill -9` of the server before and after each write of its store, and of a node before and after each of its own.

All processes are real ones, forked from one that has imported what they need, so that each costs milliseconds.
"""

import asyncio
import multiprocessing
import os
import secrets
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import umbel as fl
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.disk import DiskKeeper
from umbel.runtimes.node.worker import LocalWorker
from umbel.stores import SQLiteStore, Store
from umbel.testing import WithHead
from umbel.transports import InTurn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "forkserver" not in multiprocessing.get_all_start_methods(), reason="no processes can be forked"
    ),
]
NAMES = ("0", "1")
# In both a step is made of everybody's updates, so that its bits do not hang on who comes first.
PLANS = {
    "rounds": {"strategy": fl.Scaffold(shared="backbone.*")},
    "steps": {"strategy": fl.FedAvg(shared="backbone.*"), "coordinator": fl.Buffered(concurrency=2, buffer_size=2)},
}
NEVER = 10**9
WITHIN_S = 60
WARM = [
    "pytest",
    "umbel.runtimes.node.agent",
    "umbel.runtimes.server.start",
    "umbel.strategies",
    "umbel.testing",
    "umbel.transports.tcp",
]


class Fuse:
    """Ends this process at the n-th visit; counts them."""

    def __init__(self, at):
        self.left, self.visits = at, 0

    def visit(self):
        self.visits += 1
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def deadly(fuse, inner, writes, abstract=object):
    """`inner`, with a visit before and one after each of its writes."""

    def guarded(name):
        def write(self, *values, **named):
            fuse.visit()
            getattr(inner, name)(*values, **named)
            fuse.visit()

        return write

    def passed(name):
        return lambda self, *values, **named: getattr(inner, name)(*values, **named)

    public = {name for name in dir(inner) if not name.startswith("_")} - COMPOSED
    methods = [name for name in sorted(public) if callable(getattr(inner, name))]
    body = {name: guarded(name) if name in writes else passed(name) for name in methods}
    return type("Deadly", (abstract,), body)()


STORE_WRITES = ("create", "set_status", "set_plan", "append", "commit", "forget")
COMPOSED = {"rewind"}  # of the abstract store, made of its writes
KEEPER_WRITES = ("keep", "settle", "forget")


def serve(path, listen, plan, at, pipe):
    """A server's process: says where it listens, and at its end what came out."""
    fuse = Fuse(at)
    store = deadly(fuse, SQLiteStore(path), STORE_WRITES, Store)
    history = fl.server.start_server(
        listen,
        **PLANS[plan],
        config=fl.ServerConfig(num_rounds=3, seed=3, min_available_clients=len(NAMES)),
        store=store,
        resume="last" if store.runs() else None,
        progress=False,
        ready=pipe.send,
    )
    pipe.send((history.parameters.digest, history.loss, len(history.rounds), fuse.visits))


def take_part(address, name, folder, at, pipe):
    """A node's process: its keeper is on disk."""
    fuse = Fuse(at)
    keeper = deadly(fuse, DiskKeeper(folder / f"{name}.db"), KEEPER_WRITES)
    server = InTurn(address)
    with ThreadPoolExecutor(1) as pool:
        worker = LocalWorker(WithHead(clients=len(NAMES)).client, pool, name)
        agent = Agent(lambda: server.connect(None), Identity(name, secrets.token_bytes(16)), worker, keeper, say=len)
        asyncio.run(agent.run())
    pipe.send(fuse.visits)


class Site:
    """The processes of one run."""

    def __init__(self, folder, plan):
        self.folder, self.plan = folder, plan
        self.address = "127.0.0.1:0"
        self._forking = multiprocessing.get_context("forkserver")
        self._forking.set_forkserver_preload(WARM)
        self.processes, self._pipes = [], []

    def _start(self, work, *values):
        mine, its = self._forking.Pipe()
        process = self._forking.Process(target=work, args=(*values, its))
        process.start()
        its.close()
        self.processes.append(process)
        self._pipes.append(mine)
        return process, mine

    def server(self, at=NEVER):
        process, pipe = self._start(serve, self.folder / "runs.db", self.address, self.plan, at)
        return process, pipe

    def node(self, name, at=NEVER):
        return self._start(take_part, self.address, name, self.folder, at)

    def end(self):
        for process in self.processes:
            process.kill()
            process.join(WITHIN_S)
            process.close()
        for pipe in self._pipes:
            pipe.close()


@contextmanager
def site(folder, plan):
    folder.mkdir()
    found = Site(folder, plan)
    try:
        yield found
    finally:
        found.end()


def heard(pipe):
    """What a process says next; None if it has ended."""
    assert pipe.poll(WITHIN_S)
    try:
        return pipe.recv()
    except EOFError:
        return None


def run(folder, plan, *, server_at=NEVER, node_at=NEVER):
    """(outcome, the server's visits, the first node's) of a run in which one process is killed and started again."""
    with site(folder, plan) as at:
        server, told = at.server(server_at)
        said = heard(told)
        if said is None:
            # It was killed before it listened.
            server, told = at.server()
            said = heard(told)
        at.address = said
        node, node_told = at.node(NAMES[0], node_at)
        at.node(NAMES[1])
        if node_at != NEVER:
            assert heard(node_told) is None
            node.join(WITHIN_S)
            assert node.exitcode == -signal.SIGKILL
            at.node(NAMES[0])
        outcome = heard(told)
        if outcome is None:
            server.join(WITHIN_S)
            assert server.exitcode == -signal.SIGKILL
            server, told = at.server()
            assert heard(told) == at.address
            outcome = heard(told)
        visits = heard(node_told) if node_at == NEVER and server_at == NEVER else 0
        return outcome[:3], outcome[3], visits


@pytest.fixture(scope="module", params=PLANS)
def undisturbed(request, tmp_path_factory):
    """The plan, and (outcome, the server's visits, the first node's)."""
    return request.param, run(tmp_path_factory.mktemp("undisturbed") / "site", request.param)


def test_a_server_killed_at_any_write_ends_in_the_bits_of_the_undisturbed_run(undisturbed, tmp_path):
    plan, (outcome, visits, _) = undisturbed
    assert visits >= 2 * 5  # at least a beginning, three rounds and an end
    for at in range(1, visits + 1):
        assert run(tmp_path / f"{at}", plan, server_at=at)[0] == outcome, f"killed at visit {at} of {visits}"


def test_a_node_killed_at_any_write_leaves_the_bits_as_they_were(undisturbed, tmp_path):
    plan, (outcome, _, visits) = undisturbed
    assert visits == 2 * 7  # three answers kept and settled, and a run forgotten
    for at in range(1, visits + 1):
        assert run(tmp_path / f"{at}", plan, node_at=at)[0] == outcome, f"killed at visit {at} of {visits}"


def test_the_files_of_killed_processes_are_whole(tmp_path):
    run(tmp_path / "site", "rounds", server_at=7)
    for path in (tmp_path / "site").glob("*.db"):
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
