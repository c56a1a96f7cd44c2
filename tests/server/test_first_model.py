"""A run whose first model a node is asked for: who does not answer holds up nobody."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest
from tests.chaos.world import FlakyLink, Network, SlowWorker

import umbel as fl
from umbel.errors import RoundError

from .site import Site


class Starts(fl.NumPyClient):
    """Begins with its own number, 880 kB of it."""

    def __init__(self, number):
        self.number = number

    def get_parameters(self):
        return [np.full(110_000, self.number)]

    def fit(self, parameters, config):
        return parameters, 1, {}


def client_fn(context):
    return Starts(float(context.client))


class Hesitant(SlowWorker):
    """A worker that takes its time over the first model."""

    def __init__(self, name, waits_s):
        super().__init__(client_fn, name, random.Random(name), 0.01)
        self.waits_s = waits_s

    async def play(self, run, letter, blobs, memory):
        if letter.kind == "query":
            await asyncio.sleep(self.waits_s)
        return await super().play(run, letter, blobs, memory)


def began(waits, **config):
    """The first model's number, when the run began, and what was said."""
    site = Site(client_fn, num_rounds=0, min_available_clients=len(waits), **config)

    async def story():
        for name, waits_s in waits.items():
            site.node(name, worker=Hesitant(name, waits_s))
            await site.until(lambda name=name: name in site.conduct.nodes.names or site.running.done())
        await asyncio.wait((site.running,))

    site.play(story)
    assert not isinstance(site.outcome, BaseException), site.outcome
    [begun] = [event for event in site.events if event["kind"] == "begun"]
    said = [text for text in site.said if "first model" in text]
    warned = [event["text"] for event in site.store.events(site.conduct.run) if event["kind"] == "warning"]
    assert said == warned, "the log tells it, too"
    [first] = [event for event in site.store.events(site.conduct.run) if event["kind"] == "begun"]
    assert first["giver"] == f"{site.outcome.parameters['0'][0]:.0f}"
    assert first["model"] == site.outcome.parameters.digest
    return site.outcome.parameters["0"][0], begun["now_s"], said


def test_a_first_model_that_was_given_is_nobody_s():
    site = Site(client_fn, num_rounds=0, min_available_clients=1)
    site.order = replace(site.order, initial=[np.zeros(3)])

    async def story():
        site.node("1", worker=Hesitant("1", 0.0))
        await asyncio.wait((site.running,))

    site.play(story)
    [first] = [event for event in site.store.events(site.conduct.run) if event["kind"] == "begun"]
    assert (first["giver"], first["model"]) == (None, site.outcome.parameters.digest)


NEVER_S = 3000.0


def test_a_node_that_never_answers_does_not_hold_up_the_start():
    number, at_s, said = began({"1": NEVER_S, "2": 0.0})
    assert number == 2.0
    assert 60 <= at_s < 63
    assert said == ["no first model has come from 1 for 60 s; 2 is asked, too"]


def test_a_round_timeout_is_the_time_that_a_first_model_may_take():
    number, at_s, said = began({"1": NEVER_S, "2": 0.0}, round_timeout=7.0)
    assert number == 2.0
    assert 7 <= at_s < 8
    assert said == ["no first model has come from 1 for 7 s; 2 is asked, too"]


def test_several_that_do_not_answer_are_passed_over_one_after_the_other():
    number, at_s, said = began({"1": NEVER_S, "2": NEVER_S, "3": 0.0})
    assert number == 3.0
    assert 120 <= at_s < 125
    assert said[1:] == ["no first model has come from 1 and 2 for 60 s; 3 is asked, too"]


def test_a_slow_node_that_is_alone_is_waited_for():
    number, at_s, said = began({"1": 500.0})
    assert (number, said) == (1.0, [])
    assert at_s >= 500


def test_the_first_answer_counts_whoever_it_is_from():
    number, at_s, _ = began({"1": 80.0, "2": NEVER_S})
    assert number == 1.0
    assert 80 <= at_s < 83


class Wire(FlakyLink):
    """A link over which each part of a model takes 25 s."""

    def write(self, parts):
        parts = list(parts)
        if sum(map(len, parts)) < 10_000:
            return super().write(parts)
        loop = asyncio.get_running_loop()
        self.free_at_s = max(self.free_at_s, loop.time()) + 25.0
        super().write(parts)
        loop.call_at(self.free_at_s, self.receiver.writable)
        return False


@pytest.mark.parametrize(("more", "number"), [({}, 1.0), ({"round_timeout": 60.0}, 2.0)])
def test_a_model_that_is_on_its_way_is_waited_for_unless_a_time_is_set(more, number):
    site = Site(client_fn, num_rounds=0, min_available_clients=2, **more)
    network = Network(random.Random(1))

    async def connect():
        near, far = Wire(network, "server"), Wire(network, "node")
        near.other, far.other = far, near
        site.desk.arrived(far)
        return near

    async def story():
        site.node("1", worker=Hesitant("1", 0.0), connect=connect)
        await site.until(lambda: site.conduct.nodes.names)
        site.node("2", worker=Hesitant("2", 0.0))
        await asyncio.wait((site.running,))

    site.play(story)
    assert site.outcome.parameters["0"][0] == number
    [begun] = [event for event in site.events if event["kind"] == "begun"]
    # 880 kB are four parts.
    assert begun["now_s"] > (100 if number == 1.0 else 60)


def test_a_run_that_is_stopped_before_it_has_a_model_can_be_begun_again():
    site = Site(client_fn, num_rounds=1, min_available_clients=1)

    async def story():
        site.node("1", worker=Hesitant("1", NEVER_S))
        await site.until(lambda: site.desk.nodes and site.desk.nodes["1"].ready)
        await asyncio.sleep(5)

    site.play(story)
    assert isinstance(site.outcome, RoundError)
    assert "it was not begun: that is all" in str(site.outcome)
    assert [run.status for run in site.store.runs()] == ["interrupted"]
