"""How long the steps of a secure round at a server wait, and for whom. It is all bookkeeping: time is an argument."""

import math

import numpy as np
import pytest
from tests.node.at_node import AtNode

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Rounds
from umbel.message import Update
from umbel.runtimes.halves import client_half
from umbel.runtimes.mail import Answer, read_letter, write_answer
from umbel.runtimes.secure import secured
from umbel.runtimes.server.events import Came, Deliver, Joined, Left
from umbel.runtimes.server.nodes import Nodes
from umbel.runtimes.server.secure import STEP_S, SecureNodePlayers, _with_last
from umbel.stores import MemoryStore, RunInfo

NAMES = ("0", "1", "2", "3")
SECURE = fl.Secure(clip=4.0, weight_cap=4.0)
STRATEGY = fl.FedAvg()
NOW_S = 100.0
LATER = 10**6


class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 2, {}


class Round:
    """A secure round under way at a server, with clients that answer when a test says so."""

    def __init__(self, *, leadership=1, quorum=0.5):
        self.nodes, self.now_s = Nodes(names=NAMES), NOW_S
        coordinator = Rounds(fl.ServerConfig(seed=1, quorum=quorum), self.nodes, timed=True)
        store = MemoryStore()
        store.create(RunInfo("run", "steps", 0.0, "running", {}))
        more = {"seed": 1, "clock": lambda: self.now_s}
        self.players = SecureNodePlayers(SECURE, "run", STRATEGY, self.nodes, store, **more)
        self.players.leadership = leadership
        plan = {"run": "run", "client_half": client_half(secured(STRATEGY, SECURE))}
        self.at = {name: AtNode(lambda: Adds(), plan, name) for name in NAMES}
        self.task = STRATEGY.task(STRATEGY.init(Arrays.of({"0": np.zeros(2)})), 1)
        self.blobs = {self.task.arrays.digest: self.task.arrays}
        phase = coordinator.begin(NOW_S)
        self.steps = self.players.fit(phase, self.task, coordinator)
        self.until_s = next(self.steps)

    @property
    def asked(self):
        """The asks that have gone out since the last look, by client."""
        outbox, self.players.outbox = self.players.outbox, []
        return {one.client: one for one in outbox if isinstance(one, Deliver)}

    def answer(self, name, deliver):
        letter = read_letter(b"".join(map(bytes, deliver.parts)))
        return Came(name, b"".join(map(bytes, write_answer(self.at[name].answer(letter, self.blobs)))), 0)

    def send(self, events):
        """Tell the round; keeps until when it waits, or its tally once it is over."""
        try:
            self.until_s = self.steps.send(events)
        except StopIteration as end:
            self.until_s, self.tally = None, end.value[0]

    def to_its_end(self):
        while self.until_s is not None:
            self.all_answer()

    def all_answer(self):
        self.send([self.answer(name, deliver) for name, deliver in self.asked.items()])


@pytest.mark.parametrize(("leadership", "until_s"), [(1, NOW_S + STEP_S), (2, math.inf)])
def test_the_first_keys_are_waited_for_like_training_where_another_server_led_before(leadership, until_s):
    under_way = Round(leadership=leadership)
    assert under_way.until_s == until_s
    under_way.all_answer()
    assert under_way.until_s == NOW_S + STEP_S


def test_who_left_after_its_answer_is_not_waited_for_longer_than_who_leaves_within_a_step():
    under_way = Round()
    asked = under_way.asked
    answers = [under_way.answer(name, deliver) for name, deliver in asked.items()]
    under_way.nodes.names = NAMES[:3]
    under_way.send(answers)
    shares = under_way.asked
    assert set(shares) == set(NAMES)
    under_way.send([under_way.answer(name, shares[name]) for name in NAMES[:3]])
    assert under_way.until_s == NOW_S + 10
    # Back in time it is asked again, and in.
    under_way.nodes.names = NAMES
    under_way.send([Joined("3")])
    under_way.all_answer()
    under_way.to_its_end()
    assert under_way.tally.receipts.done == 4


def test_an_answer_to_another_step_ends_the_wait_for_its_client_with_the_reason():
    under_way = Round()
    asked = under_way.asked
    other = write_answer(Answer("run", 1, LATER, "fit", "0", update=Update({}, 0.0, own={"message": b""})))
    under_way.send(
        [Came("0", b"".join(map(bytes, other)), 0), *(under_way.answer(name, asked[name]) for name in NAMES[1:])]
    )
    under_way.to_its_end()
    [failed] = under_way.tally.receipts.failures()
    assert (failed.client, failed.reason) == ("0", "an answer in a secure round is that to another step")


def test_an_answer_to_an_ask_of_before_a_link_broke_is_not_taken_for_that_to_this_one():
    under_way = Round(leadership=2)
    asked = under_way.asked
    attempt = asked["0"].ask.attempt
    for place in ((1, 7, "fit"), (0, attempt + 4, "evaluate"), (0, attempt, "fit")):
        old = write_answer(Answer("run", *place, "0", update=Update({}, 0.0, own={"message": b""})))
        under_way.send([Came("0", b"".join(map(bytes, old)), 0)])
    under_way.send([under_way.answer(name, asked[name]) for name in NAMES])
    under_way.to_its_end()
    assert under_way.tally.receipts.done == 4


def test_a_sum_of_fewer_than_the_round_needs_is_not_opened():
    """Opened and thrown away it could not be opened again with those who were missing."""
    under_way = Round(quorum=1.0)
    for _ in range(2):
        under_way.all_answer()
    asked = under_way.asked
    under_way.nodes.names = NAMES[:3]
    under_way.send([Left("3"), *(under_way.answer(name, asked[name]) for name in NAMES[:3])])
    under_way.now_s = under_way.until_s
    under_way.send([])
    assert (under_way.asked, under_way.tally.receipts.done) == ({}, 0)
    reasons = {failed.client: failed.reason for failed in under_way.tally.receipts.failures()}
    assert reasons["3"] == "did not answer in step 'mask' of the secure round"
    assert reasons["0"].startswith("3 of 4 clients sent their vectors, 4 are needed (client 3: did not answer")


def test_why_a_sum_was_not_opened_is_what_clients_said_last():
    """The first that dropped out was not missed; the round ended because two would not sign."""
    failed = {"a": "did not answer", "b": "another sum was opened"}
    assert _with_last("1 of 4 clients signed", failed) == "1 of 4 clients signed (client b: another sum was opened)"
    assert _with_last("1 of 4 clients signed", {}) == "1 of 4 clients signed"
