"""A node under a policy, at a real desk: what is refused is answered, and nothing of the client's runs or leaves."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.message import Ask, Task
from umbel.runtimes.mail import Answer, blobs_of, read_answer, write_letter
from umbel.runtimes.node.agent import KEPT_BLOBS, Agent, Identity
from umbel.runtimes.node.host import PARAMETERS
from umbel.runtimes.node.keep import MemoryKeeper
from umbel.runtimes.node.policy import Conditions
from umbel.runtimes.node.rules import Limits, Policy, Privacy, When
from umbel.runtimes.node.worker import LocalWorker
from umbel.runtimes.server.desk import Desk
from umbel.runtimes.server.events import CallOff, Deliver
from umbel.transports.memory import MemoryTransport
from umbel.wire import pack_parts

PLAN = {
    "run": "r",
    "name": "trial",
    "client_half": {"name": "FedAvg"},
    "settings": {},
    "cohort": 8,
    "per_client_metrics": False,
}
NIGHT = Conditions("2027-01-15", 4, 23 * 60)


class Counting(fl.NumPyClient):
    """Counts what it was asked."""

    def __init__(self):
        self.asked = []

    def get_parameters(self):
        return [np.zeros(1000)]

    def fit(self, parameters, config):
        self.asked.append("fit")
        return parameters, 1, {}

    def evaluate(self, parameters, config):
        self.asked.append("evaluate")
        return 0.0, 1, {}


@dataclass(eq=False)
class Lead:
    """One run of a server that sends what a test tells it to."""

    run: str = "r"
    plan: dict = field(default_factory=lambda: dict(PLAN))
    upload_bytes: int = 2**30
    ready: asyncio.Queue = field(default_factory=asyncio.Queue)
    answers: asyncio.Queue = field(default_factory=asyncio.Queue)

    def plan_for(self, node):
        return self.plan

    def is_ready(self, node, answer):
        if answer.verdict == "done":
            node.ready.add(self.run)
        self.ready.put_nowait(answer)

    def came(self, node, data, token):
        self.answers.put_nowait((read_answer(data), token))

    def room(self, nbytes):
        return memoryview(bytearray(nbytes))

    def spoiled(self, node, round, attempt, reason):
        raise AssertionError(reason)

    def left(self, node):
        pass

    def expects(self, node, round, attempt):
        return True


class World:
    """A desk, a node, and what both said."""

    def __init__(self, policy, *, facts=NIGHT, done_today=lambda: 0, keeper=None, plan=None, review=None):
        self.client, self.said, self._review = Counting(), [], review and partial(review, self)
        self.lead = Lead(plan=plan or dict(PLAN))
        self.facts = facts
        self.desk = Desk("server", say=self.said.append)
        self._policy, self._done_today, self._keeper = policy, done_today, keeper or MemoryKeeper()

    async def __aenter__(self):
        transport = MemoryTransport()
        await transport.listen("server", self.desk.arrived)
        self.desk.begin(self.lead)
        self._pool = ThreadPoolExecutor(1)
        agent = self.agent = Agent(
            lambda: transport.connect("server"),
            Identity("node", b"boot"),
            LocalWorker(lambda context: self.client, self._pool, "node"),
            self._keeper,
            say=self.said.append,
            rng=random.Random(1),
            policy=self._policy,
            done_today=self._done_today,
            conditions=lambda: self.facts,
            review=self._review,
        )
        self._running = asyncio.ensure_future(agent.run())
        self.ready: Answer = await asyncio.wait_for(self.lead.ready.get(), 20)
        return self

    async def __aexit__(self, *_):
        self._running.cancel()
        await self.desk.close("over", finished=True)
        self._pool.shutdown()

    async def ask(self, kind="fit", round=1, **more) -> Answer:
        self.send(kind, round, **more)
        answer, token = await asyncio.wait_for(self.lead.answers.get(), 20)
        self.desk.uploads.release(token)
        return answer

    def send(
        self, kind="fit", round=1, *, size=1000, run="r", attempt=0, beside=(), client="node", own=None, config=None
    ) -> None:
        extra = {str(more): Arrays.of([np.zeros(more)]) for more in beside}
        task = Task(round, Arrays.of([np.zeros(size)]), extra, config or {})
        ask = Ask(client, kind, task, own or {}, attempt=attempt, key=7)
        digests = {"": task.arrays.digest, **{name: arrays.digest for name, arrays in extra.items()}}
        parts = write_letter(run, ask, digests, None, 100.0)
        self.desk.do("r", Deliver("node", ask, parts, blobs_of(task)))


def play(policy, story, **more):
    async def whole():
        async with World(policy, **more) as world:
            await story(world)
            return world

    return asyncio.run(whole())


def test_without_a_policy_and_under_one_that_allows_it_a_node_works():
    async def story(world):
        assert world.ready.verdict == "done"
        assert (await world.ask()).verdict == "done"
        assert (await world.ask("evaluate")).verdict == "done"

    for policy in (None, Policy()):
        assert play(policy, story).client.asked == ["fit", "evaluate"]


def test_a_plan_against_the_policy_is_not_begun_and_its_asks_get_no_work():
    async def story(world):
        assert world.ready.verdict == "unwilling"
        assert "privacy.min_cohort is 9, and the plan's cohort is 8" in world.ready.reason
        answer = await world.ask()
        assert (answer.verdict, answer.reason) == ("unwilling", "run r was not begun here")

    world = play(Policy(privacy=Privacy(min_cohort=9)), story)
    assert world.client.asked == []
    assert any("run r is not taken: the policy's privacy.min_cohort" in text for text in world.said)


def test_an_ask_outside_of_the_hours_is_answered_and_one_inside_is_worked_on():
    async def story(world):
        assert world.ready.verdict == "done"
        answer = await world.ask()
        assert answer.verdict == "unwilling"
        assert "when.hours only (08:00-12:00); it is fri 23:00" in answer.reason
        world.facts = replace(NIGHT, minute=9 * 60)
        assert (await world.ask(round=2)).verdict == "done"

    assert play(Policy(when=When(hours=((8 * 60, 12 * 60),))), story).client.asked == ["fit"]


def test_the_rounds_of_a_day_are_counted_with_those_before_a_restart():
    async def story(world):
        assert (await world.ask(round=1)).verdict == "done"
        answer = await world.ask(round=2)
        assert answer.verdict == "unwilling"
        assert "limits.rounds_per_day is 5, and 5 were worked on today" in answer.reason

    done = iter([4, 5])
    assert play(Policy(limits=Limits(rounds_per_day=5)), story, done_today=lambda: next(done)).client.asked == ["fit"]


def test_a_round_is_its_fit_and_one_evaluation_and_a_new_day_begins_anew():
    async def story(world):
        verdicts = [(await world.ask(kind, number, attempt=place)).verdict for place, (kind, number) in enumerate(ASKS)]
        assert verdicts == ["done", "done", "unwilling", "unwilling", "done", "unwilling"]
        world.facts = replace(NIGHT, date="2027-01-16")
        assert (await world.ask(round=4)).verdict == "done"

    ASKS = [("fit", 1), ("fit", 2), ("evaluate", 3), ("fit", 3), ("evaluate", 2), ("evaluate", 2)]
    world = play(Policy(limits=Limits(rounds_per_day=2)), story)
    assert world.client.asked == ["fit", "fit", "evaluate", "fit"]


def test_a_round_that_is_tried_again_counts_again():
    async def story(world):
        verdicts = [(await world.ask(attempt=attempt)).verdict for attempt in range(3)]
        assert verdicts == ["done", "done", "unwilling"]

    play(Policy(limits=Limits(rounds_per_day=2)), story)


def test_evaluations_alone_are_rounds_too():
    async def story(world):
        verdicts = [(await world.ask("evaluate", number)).verdict for number in (1, 1, 2)]
        assert verdicts == ["done", "done", "unwilling"]

    play(Policy(limits=Limits(rounds_per_day=2)), story)


def test_an_answer_that_is_too_large_does_not_leave_and_is_not_kept():
    keeper = MemoryKeeper()

    async def story(world):
        answer = await world.ask(size=1000)
        assert (answer.verdict, answer.update) == ("unwilling", None)
        assert "limits.max_upload_mb is 0.004, and this answer has 0.00" in answer.reason
        assert keeper._run("r").answers == {}
        assert (await world.ask(round=2, size=10)).verdict == "done"

    play(Policy(limits=Limits(max_upload_mb=0.004)), story, keeper=keeper)
    assert list(keeper._run("r").answers) == [(2, 0)]


@pytest.mark.parametrize(("numbers", "is_announced"), [(1000, False), (1_000_000, True)])
def test_arrays_that_are_too_large_are_not_taken_and_the_ask_is_answered(numbers, is_announced):
    async def story(world):
        answer = await world.ask(size=numbers)
        assert answer.verdict == "unwilling"
        assert "limits.max_download_mb is 0.004, and this model has" in answer.reason
        assert (await world.ask(round=2, size=10)).verdict == "done"

    world = play(Policy(limits=Limits(max_download_mb=0.004)), story)
    assert world.client.asked == ["fit"]
    refused = [text for text in world.said if "node node does not take a message: the policy's" in text]
    assert bool(refused) == is_announced, "what is announced is refused before it travels"


def test_an_ask_of_a_run_that_was_never_begun_does_not_end_the_node():
    async def story(world):
        world.send(run="other")  # whose answer the desk does not take
        assert (await world.ask(round=2)).verdict == "done"

    assert play(None, story).client.asked == ["fit"]


@pytest.mark.parametrize("plan", [{}, {"client_half": 3}])
def test_a_plan_that_is_none_is_answered(plan):
    async def story(world):
        assert world.ready.verdict == "unwilling"

    play(Policy(), story, plan={"run": "r", **plan})


def test_an_answer_that_found_no_connection_is_not_that_to_another_attempt():
    async def story(world):
        loop, agent, fit = asyncio.get_running_loop(), world.agent, world.client.fit

        async def cut():
            agent.reconnect("the test cuts it")
            while agent._stream is not None:
                await asyncio.sleep(0)

        def cuts(parameters, config):
            if not world.client.asked:
                asyncio.run_coroutine_threadsafe(cut(), loop).result(20)
            return fit(parameters, config)

        world.client.fit = cuts
        world.send(attempt=2)
        await asyncio.wait_for(world.lead.ready.get(), 20)
        # Of the round it has all in common with the first: client, kind, model and key.
        assert [(await world.ask(attempt=attempt)).attempt for attempt in (3, 2)] == [3, 2]

    assert play(None, story).client.asked == ["fit", "fit", "fit"]


def test_where_only_sums_may_leave_no_query_is_answered():
    """A client that is one object has the weights that it trained, and its parameters would be these."""
    secured = {"name": "Secured", "inner": {"name": "FedAvg"}}
    plan = {**PLAN, "client_half": secured, "privacy": {"secure_aggregation": True}}

    async def story(world):
        assert world.ready.verdict == "done"
        answer = await world.ask("query", config={"query": PARAMETERS})
        assert (answer.verdict, answer.update) == ("unwilling", None)
        assert "a query asks for what this node has alone" in answer.reason
        # As a later step of a secure round it would not even count.
        answer = await world.ask("query", 2, config={"query": PARAMETERS}, own={"step": "mask"})
        assert answer.verdict == "unwilling"

    play(Policy(privacy=Privacy(require_secure_aggregation=True)), story, plan=plan)


def test_what_says_that_it_goes_on_with_a_secure_round_counts_unless_it_is_one():
    plan = {**PLAN, "client_half": {"name": "Secured", "inner": {"name": "FedAvg"}}}

    async def story(world):
        asked = [
            await world.ask("query", number, config={"query": PARAMETERS}, own={"step": "mask"}) for number in (1, 2)
        ]
        assert [answer.verdict for answer in asked] == ["done", "unwilling"]

    play(Policy(limits=Limits(rounds_per_day=1)), story, plan=plan)


@pytest.mark.parametrize("step", [["mask"], {"mask": 1}])
def test_an_ask_that_cannot_be_read_does_not_keep_the_next_from_an_answer(step):
    async def story(world):
        for own in ({"step": step}, {}):
            assert (await world.ask(round=1 + len(own), own=own)).verdict == "done"

    play(None, story)


def test_an_ask_for_a_client_of_another_name_is_not_worked_on():
    """By its name a client has its turns: under another one it would have those of others, too."""

    async def story(world):
        answer = await world.ask(client="other")
        assert answer.verdict == "unwilling"
        assert "is for client 'other', and this node is 'node'" in answer.reason

    for policy in (None, Policy()):
        assert play(policy, story).client.asked == []


def test_a_plan_that_another_came_after_is_not_begun_when_its_owner_has_read_it():
    """What is counted, the later plan, is what is played; here it is refused, and nothing is."""
    came = asyncio.Event()

    async def review(world, plan):
        if plan["name"] == "another":
            came.set()
            await asyncio.sleep(0.05)
            return "its owner will not have it"
        another = {**PLAN, "name": "another"}
        world.desk.nodes["node"].stream.send("plan", pack_parts("plan", {"plan": another}), run="r")
        await came.wait()
        return None

    async def story(world):
        assert (world.ready.verdict, world.ready.reason) == ("unwilling", "its owner will not have it")
        assert (await world.ask()).reason == "run r was not begun here"

    assert play(Policy(), story, review=review).client.asked == []


def test_a_node_that_is_told_to_reconnect_comes_back_and_goes_on():
    async def story(world):
        before = world.desk.nodes["node"].stream
        world.agent.reconnect("the certificate is to be renewed")
        await asyncio.wait_for(world.lead.ready.get(), 20)
        assert world.desk.nodes["node"].stream is not before
        assert (await world.ask()).verdict == "done"

    play(None, story)


def test_of_large_models_a_node_holds_the_one_it_works_with(monkeypatch):
    monkeypatch.setattr("umbel.runtimes.node.agent.KEPT_BYTES", 10_000)

    async def story(world):
        for size in (1000, 1001, 1002, 5000, 5001, 100):
            assert (await world.ask(round=size, size=size)).verdict == "done"
            held = sum(blob.nbytes for blob in world.agent._blobs.values())
            assert held <= max(10_000, 8 * size + 500)
        assert len(world.agent._blobs) > 0

    play(None, story)


def test_what_an_ask_needs_is_not_let_go_of_for_what_comes_with_it():
    async def story(world):
        for size in range(1, KEPT_BLOBS + 1):
            await world.ask(round=size, size=size)
        # The oldest one is here, and the other comes and takes somebody's place.
        assert (await world.ask(round=9, size=1, beside=(5000,))).verdict == "done"

    play(None, story)


@pytest.mark.parametrize("end", ["called off", "retired", "asked anew"])
def test_an_ask_whose_arrays_never_come_does_not_hold_up_others_once_it_is_not_wanted(end):
    """Neither a cancel nor the end of the run comes with the arrays."""

    async def story(world):
        other = Lead("other", {**PLAN, "run": "other"})
        world.desk.begin(other)
        await asyncio.wait_for(other.ready.get(), 20)
        task = Task(1, Arrays.of([np.zeros(7)]))
        ask = Ask("node", "fit", task, key=7)
        parts = write_letter("other", ask, {"": task.arrays.digest}, None, 100.0)
        world.desk.do("other", Deliver("node", ask, parts, {}))
        world.send()
        while not world.agent._now or world.agent._now[0] != "other":
            await asyncio.sleep(0)
        if end == "retired":
            world.desk.end(other)
        elif end == "asked anew":
            # That it was called off has not reached the node.
            newer = replace(ask, task=replace(task, round=2))
            parts = write_letter("other", newer, {"": task.arrays.digest}, None, 100.0)
            world.desk.do("other", Deliver("node", newer, parts, {}))
            world.desk.do("other", CallOff("node", 2, 0, "fit"))
        else:
            world.desk.do("other", CallOff("node", 1, 0, "fit"))
        answer, _ = await asyncio.wait_for(world.lead.answers.get(), 20)
        assert answer.verdict == "done"
        assert other.answers.empty()

    play(None, story)
