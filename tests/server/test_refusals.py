"""A run that nodes refuse says which and why while it waits, and ends if it may not wait for longer."""

import asyncio

import numpy as np
import pytest

import umbel as fl
from umbel.errors import TooFewClients
from umbel.runtimes.node.rules import Policy, Privacy

from .site import Site

STRICT, MILD = Policy(privacy=Privacy(min_cohort=9)), Policy()


class Adds(fl.NumPyClient):
    def __init__(self, gives=True):
        if gives:
            self.get_parameters = lambda: [np.zeros(2)]

    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {}


def site(**config):
    return Site(lambda context: Adds(), **{"fraction_evaluate": 0.0, "num_rounds": 2, **config})


@pytest.mark.parametrize("ready", [0, 1])
def test_a_run_that_nodes_refuse_says_why_it_waits_and_goes_on_when_one_is_let_in(ready):
    world = site()

    async def story():
        nodes = [world.node(str(number), policy=MILD if number < ready else STRICT) for number in range(3)]
        refused = "privacy.min_cohort is 9, and the plan's cohort is 2"
        await world.until(lambda: (world.conduct.waits_for or "").count(refused) == 3 - ready)
        text = world.conduct.waits_for
        assert text.startswith(f"waiting for nodes: {ready} of 2 are ready; refused by {ready}: the policy's")
        nodes[2].cancel()
        await world.until(lambda: "2: the policy's" not in world.conduct.waits_for)
        await asyncio.sleep(1000)
        assert not world.running.done(), "without a round_timeout it waits"
        for number in (3, 4):
            world.node(str(number), policy=MILD)
        await world.until(world.running.done)

    world.play(story)
    assert len(world.outcome.rounds) == 2


@pytest.mark.parametrize("ready", [0, 1])
def test_with_a_time_limit_it_ends_with_what_they_say(ready):
    world = site(round_timeout=60.0)

    async def story():
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(1000)
        assert not world.running.done(), "nobody is there, and nobody has refused"
        for number in range(2):
            world.node(str(number), policy=MILD if number < ready else STRICT)
        await world.until(world.running.done)
        assert 1060 <= asyncio.get_running_loop().time() - began_s < 1100

    world.play(story)
    assert isinstance(world.outcome, TooFewClients)
    assert f"round_timeout=60 s nodes have refused ({ready}: the policy's privacy.min_cohort" in str(world.outcome)
    assert "umbel agree" in str(world.outcome)
    (run,) = world.store.runs()
    (ended,) = [event for event in world.store.events(run.id) if event["kind"] == "ended"]
    assert (run.status, ended["reason"]) == ("failed", f"failed: {world.outcome}")


def test_one_that_is_stopped_while_it_waits_says_so_in_its_log():
    world = site()

    async def story():
        world.node("0", policy=STRICT)
        await world.until(lambda: world.conduct.leader.refusals)

    world.play(story)
    (run,) = world.store.runs()
    (ended,) = [event for event in world.store.events(run.id) if event["kind"] == "ended"]
    assert (run.status, ended["reason"]) == ("interrupted", "interrupted")


def test_the_limit_begins_anew_when_a_node_comes_that_has_not_decided():
    world = site(round_timeout=60.0)

    async def story():
        world.node("0", policy=STRICT)
        await asyncio.sleep(50)
        decide = asyncio.Event()

        async def review(plan):
            await decide.wait()
            return

        world.node("1", policy=MILD, review=review)
        await asyncio.sleep(500)
        assert not world.running.done()
        decide.set()
        world.node("2", policy=MILD)
        await world.until(world.running.done)

    world.play(story)
    assert len(world.outcome.rounds) == 2
