"""`kill -9` of the server within secure rounds: before it sends a step's messages, and before it takes in an answer.

All processes are real ones, forked from one that has imported what they need, so that each costs milliseconds.
"""

import asyncio
import importlib
import multiprocessing
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

import umbel as fl
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.disk import DiskKeeper
from umbel.runtimes.node.worker import LocalWorker
from umbel.stores import SQLiteStore
from umbel.testing import Quadratics
from umbel.transports import InTurn

from .test_killed_anywhere import NEVER, WARM, WITHIN_S, Fuse, heard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "forkserver" not in multiprocessing.get_all_start_methods(), reason="no processes can be forked"
    ),
]
NAMES = ("0", "1", "2")
ROUNDS = 3
STEP = 5
"""Every so many visits one is the last. It shares no factor with the visits of a round, so that all kinds are met."""


def visiting(fuse, work):
    def visited(self, *values):
        fuse.visit()
        return work(self, *values)

    return visited


def serve(path, listen, checkpoint_every, at, secure_sum, pipe):
    """A server's process: says where it listens, and at its end what came out."""
    how = "sa1" if secure_sum is None else "ckks"
    Conversation = importlib.import_module(f"umbel.privacy.{how}.conversation").Conversation
    fuse = Fuse(at)
    for name in ("messages" if how == "ckks" else "go_on", "took"):
        setattr(Conversation, name, visiting(fuse, getattr(Conversation, name)))
    store = SQLiteStore(path)
    history = fl.server.start_server(
        listen,
        strategy=fl.Scaffold(),
        coordinator=fl.Secure(clip=16.0, weight_cap=64.0, secure_sum=secure_sum),
        config=fl.ServerConfig(
            ROUNDS, seed=3, min_available_clients=len(NAMES), checkpoint_every=checkpoint_every, round_timeout=WITHIN_S
        ),
        store=store,
        resume="last" if store.runs() else None,
        progress=False,
        ready=pipe.send,
    )
    pipe.send(((history.parameters.digest, history.loss, len(history.rounds)), fuse.visits))


def take_part(address, name, folder, pipe):
    """A node's process: its keeper is on disk."""
    server = InTurn(address)
    with ThreadPoolExecutor(1) as pool:
        worker = LocalWorker(Quadratics(dtype="float32").client, pool, name)
        keeper = DiskKeeper(folder / f"{name}.db")
        agent = Agent(lambda: server.connect(None), Identity(name, secrets.token_bytes(16)), worker, keeper, say=len)
        asyncio.run(agent.run())


def run(folder, *, at=NEVER, checkpoint_every=1, secure_sum=None):
    """(outcome, the server's visits) of a run whose server is killed at a visit and started again."""
    folder.mkdir()
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload([*WARM, "umbel.privacy.sa1"])
    processes, pipes = [], []

    def start(work, *values):
        mine, its = forking.Pipe()
        process = forking.Process(target=work, args=(*values, its))
        process.start()
        its.close()
        processes.append(process)
        pipes.append(mine)
        return mine

    try:
        told = start(serve, folder / "runs.db", "127.0.0.1:0", checkpoint_every, at, secure_sum)
        address = heard(told)
        for name in NAMES:
            start(take_part, address, name, folder)
        outcome = heard(told)
        if outcome is None:
            told = start(serve, folder / "runs.db", address, checkpoint_every, NEVER, secure_sum)
            assert heard(told) == address
            outcome = heard(told)
        return outcome
    finally:
        for process in processes:
            process.kill()
            process.join(WITHIN_S)
        for pipe in pipes:
            pipe.close()


def test_a_server_killed_at_any_step_of_secure_rounds_ends_in_the_bits_of_the_undisturbed_run(tmp_path):
    outcome, visits = run(tmp_path / "undisturbed")
    # A sum whose keys were made ahead has two steps' messages, and an answer of each client to the one without a mask;
    # each sum ends with a look whether there are more, and the first one has two steps before.
    assert visits == ROUNDS * 2 * (3 + len(NAMES)) + 2 * (1 + len(NAMES))
    for at in range(STEP, visits, STEP):
        assert run(tmp_path / f"{at}", at=at)[0] == outcome, f"killed at visit {at} of {visits}"


def test_a_server_that_goes_back_more_than_a_round_is_answered_as_well(tmp_path):
    outcome, visits = run(tmp_path / "undisturbed", checkpoint_every=3)
    assert run(tmp_path / "killed", at=visits - 1, checkpoint_every=3)[0] == outcome
