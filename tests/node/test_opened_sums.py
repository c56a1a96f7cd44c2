"""Of two sums over the same model a node opens only what does not show a single client's update by their difference."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from tests.node.test_policy_at_work import Lead

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Phase
from umbel.message import Ask, Task
from umbel.privacy.sa1.conversation import STEPS
from umbel.privacy.sa1.ring import GROUP, WORDS
from umbel.privacy.tries import offered
from umbel.runtimes.halves import client_half
from umbel.runtimes.mail import blobs_of, write_letter
from umbel.runtimes.node import opened_sums
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.disk import DiskKeeper
from umbel.runtimes.node.keep import MemoryKeeper
from umbel.runtimes.node.opened_sums import MemorySums, OpenedSums
from umbel.runtimes.node.promises import hides_clients
from umbel.runtimes.node.vault import ATTEMPT_STEPS
from umbel.runtimes.node.worker import LocalWorker
from umbel.runtimes.privately import Parts
from umbel.runtimes.secure import NOTHING, keyring_for, purpose_for, secured
from umbel.runtimes.server.desk import Desk
from umbel.runtimes.server.events import Deliver
from umbel.transports.memory import MemoryTransport

NAMES = ("north", "south", "west", "east", "hill", "coast")
SECURE = fl.Secure()


class Same(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 0.1], 1, {}

    def evaluate(self, parameters, config):
        return 1.0, 1, {}


class World:
    """A server that does what a test tells it to, and real nodes."""

    def __init__(self, folder, strategy=None, settings=SECURE):
        self.folder, self.strategy, self.settings = folder, strategy or fl.FedAvg(), settings
        self.half = client_half(secured(self.strategy, settings))
        self.desk, self.transport = Desk("server", say=lambda text: None), MemoryTransport()
        self.leads, self.agents, self.led = dict[str, Lead](), dict[str, asyncio.Future]({}), 0
        self.things = ExitStack()

    async def __aenter__(self):
        await self.transport.listen("server", self.desk.arrived)
        await self.start(NAMES)
        return self

    async def __aexit__(self, *_):
        for agent in self.agents.values():
            agent.cancel()
        await self.desk.close("over", finished=True)
        self.things.close()

    async def start(self, names):
        """Nodes, or new processes of nodes that were there."""
        for name in names:
            if name in self.agents:
                self.agents[name].cancel()
                await asyncio.wait([self.agents[name]])
            keeper = DiskKeeper(self.folder / f"{name}.db")
            worker = LocalWorker(lambda context: Same(), self.things.enter_context(ThreadPoolExecutor(1)), name)
            self.things.callback(keeper.close)
            agent = Agent(
                lambda: self.transport.connect("server"),
                Identity(name, os.urandom(16)),
                worker,
                MemoryKeeper(),
                say=lambda text: None,
                rng=random.Random(1),
                sums=keeper,
            )
            self.agents[name] = asyncio.ensure_future(agent.run())
            for lead in self.leads.values():
                assert (await asyncio.wait_for(lead.ready.get(), 20)).verdict == "done"

    async def begin(self, run):
        lead = self.leads[run] = Lead(run, {"run": run, "client_half": self.half, "cohort": len(NAMES)})
        self.desk.begin(lead)
        for _ in NAMES:
            assert (await asyncio.wait_for(lead.ready.get(), 20)).verdict == "done"

    async def answered(self, run, ask):
        task = ask.task
        digests = {"": task.arrays.digest, **{name: arrays.digest for name, arrays in task.extra.items()}}
        lead = self.leads[run]
        self.desk.do(run, Deliver(ask.client, ask, write_letter(run, ask, digests, None, 100.0), blobs_of(task)))
        answer, token = await asyncio.wait_for(lead.answers.get(), 20)
        self.desk.uploads.release(token)
        return answer

    async def opened(self, names, *, run="run", value=0.0, kind="fit", until=None):
        """Why these clients did not open their sum; None if they did. `until` is called before the last step."""
        if run not in self.leads:
            await self.begin(run)
        self.led += 1
        task = self.strategy.task(self.strategy.init(Arrays.of([np.full(2, value, np.float32)])), 1)
        schema = self.strategy.schema(task, {}) if kind == "fit" else {}
        phase = Phase(1, kind, tuple(names), offered(self.led, 0))
        keys = keyring_for(self.settings, run)
        keys.leadership = self.led
        talk = keys.conversation(purpose_for(self.settings, phase, task, schema), phase.clients)
        while (turn := talk.go_on()) is not None:
            step, told = turn
            if step == "release" and until is not None:
                await until()
            for name, said in told.items():
                number, of = STEPS.index(step), task if step == "mask" else Task(1, NOTHING)
                place = (number, phase.attempt * ATTEMPT_STEPS + number)
                answer = await self.answered(run, Ask(name, kind, of, {"step": step, **said}, *place, key=0))
                if answer.verdict != "done":
                    return answer.reason
                if step == "mask":
                    talk.masked(name, np.array(answer.update.groups[GROUP].arrays[WORDS]), answer.update.own)
                else:
                    talk.took(name, answer.update.own)
        talk.decoded()
        return None


def play(folder, story, **more):
    async def whole():
        async with World(folder, **more) as world:
            await story(world)

    asyncio.run(whole())


def test_a_sum_without_one_client_is_not_opened_after_one_with_it(tmp_path):
    async def story(world):
        assert await world.opened(NAMES) is None
        # The server was killed after it had opened the sum, and one client is gone when it is back.
        assert "differs from it in 1 of its clients" in await world.opened(NAMES[1:])
        assert "differs from it in 2 of its clients" in await world.opened(NAMES[2:])
        assert await world.opened(NAMES) is None
        assert await world.opened(NAMES[3:]) is None  # three are missing, whose updates are hidden in their sum
        assert "differs from it in" in await world.opened(NAMES[2:])
        assert await world.opened(NAMES[2:], value=1.0) is None  # another model, other updates

    play(tmp_path, story)


def test_nor_by_nodes_that_were_started_anew(tmp_path):
    async def story(world):
        assert await world.opened(NAMES) is None
        await world.start(NAMES)
        assert "differs from it in 1 of its clients" in await world.opened(NAMES[1:])
        assert await world.opened(NAMES) is None

    play(tmp_path, story)


def test_nor_in_another_run_that_begins_from_the_same_model(tmp_path):
    async def story(world):
        assert await world.opened(NAMES, run="one") is None
        assert "begin from another model" in await world.opened(NAMES[1:], run="two")
        assert await world.opened(NAMES[1:], run="two", value=1.0) is None

    play(tmp_path, story)


def test_nor_in_another_run_that_came_so_far_at_the_same_time(tmp_path):
    async def story(world):
        reasons = []

        async def meanwhile():
            reasons.append(await world.opened(NAMES[1:], run="two"))

        reasons.append(await world.opened(NAMES, run="one", until=meanwhile))
        assert reasons[0] is None
        assert "differs from it in 1 of its clients" in reasons[1]

    play(tmp_path, story)


def private(**more):
    plan = {"clip": 1.0, "noise_multiplier": 1.0, "delta": 1e-3, "sampling": "every", "noise": "distributed", **more}
    config = fl.ServerConfig(3, fraction_evaluate=0.0, min_available_clients=5)
    strategy = fl.FedSGD() if more.get("unit") == "example" else fl.FedAvg(weighting="uniform")
    parts = Parts(strategy, config, SECURE).under(fl.PrivacyPlan(**plan), 6, has_model=True)
    return {"strategy": parts.strategy, "settings": parts.coordinator}


def test_noise_of_the_clients_own_hides_an_update_in_a_difference_too_but_no_loss(tmp_path):
    async def story(world):
        for names in (NAMES, NAMES[1:]):
            assert await world.opened(names) is None
        assert await world.opened(NAMES, kind="evaluate") is None
        assert "differs from it in 1 of its clients" in await world.opened(NAMES[1:], kind="evaluate")

    play(tmp_path, story, **private())


def test_noise_that_hides_nothing_is_none(tmp_path):
    async def story(world):
        assert await world.opened(NAMES) is None
        assert "differs from it in 1 of its clients" in await world.opened(NAMES[1:])

    play(tmp_path, story, **private(noise_multiplier=0.05))


@pytest.mark.parametrize(
    ("members", "fine"),
    [("abcd", True), ("abc", False), ("abcde", False), ("abce", False), ("aef", True), ("xyz", True)],
)
@pytest.mark.parametrize("is_on_disk", [True, False])
def test_what_is_fine_counts_who_is_in_one_sum_only(tmp_path, members, fine, is_on_disk):
    book = DiskKeeper(tmp_path / "node.db") if is_on_disk else MemorySums()
    opened = OpenedSums(book).for_run(least=3, is_hidden=False)
    opened.add("fit", b"model", frozenset("abcd"))
    assert (opened.why_not("fit", b"model", frozenset(members)) is None) is fine
    assert opened.why_not("fit", b"other", frozenset(members)) is None
    assert opened.why_not("evaluate", b"model", frozenset(members)) is None


def add_and_die(path):
    DiskKeeper(path).add_sum(b"model", frozenset("abcd"))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_sum_is_remembered_by_a_node_that_is_killed_after_it(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=add_and_die, args=(tmp_path / "node.db",))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert DiskKeeper(tmp_path / "node.db").sums(b"model") == [frozenset("abcd")]


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_the_oldest_sums_are_forgotten_when_there_are_too_many(tmp_path, monkeypatch, is_on_disk):
    for module in ("opened_sums", "disk"):
        monkeypatch.setattr(f"umbel.runtimes.node.{module}.KEPT_SUMS", 3)
    book = DiskKeeper(tmp_path / "node.db") if is_on_disk else MemorySums()
    for number in range(5):
        book.add_sum(str(number % 4).encode(), frozenset("abcd"))
    assert [len(book.sums(str(number).encode())) for number in range(4)] == [1, 0, 1, 1]


def test_names_of_too_many_bytes_are_forgotten_but_those_of_the_newest_sum(tmp_path, monkeypatch):
    monkeypatch.setattr("umbel.runtimes.node.disk.KEPT_SUM_BYTES", 100)
    keeper = DiskKeeper(tmp_path / "node.db")
    keeper.add_sum(b"1", frozenset(["x" * 60]))
    keeper.add_sum(b"2", frozenset(["y" * 60]))
    assert (len(keeper.sums(b"1")), len(keeper.sums(b"2"))) == (0, 1)
    keeper.add_sum(b"3", frozenset(["z" * 600]))
    assert len(keeper.sums(b"3")) == 1
    assert opened_sums.KEPT_SUM_BYTES > 2**20


NOISY = {"name": "Private", "plan": {"unit": "client"}}


@pytest.mark.parametrize(
    ("outer", "noise", "sharing", "hides"),
    [
        ("Secured", "distributed", {"name": "Sharing"}, True),
        ("Secured", "distributed", None, False),
        ("Ciphered", "distributed", {"name": "Sharing"}, False),
        ("Secured", "local", None, True),
        ("Secured", "server", {"name": "Sharing"}, False),
    ],
)
def test_noise_counts_where_a_client_adds_it(outer, noise, sharing, hides):
    half = {**NOISY, "plan": {"unit": "client", "noise": noise}}
    half["mechanism"] = {"noise_multiplier": 1.0, "sharing": sharing}
    assert hides_clients({"client_half": {"name": outer, "inner": half}}) is hides
