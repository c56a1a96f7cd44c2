"""What a node keeps between the steps of a secure round never leaves, and no step goes on with what is not there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from tests.node.at_node import AtNode

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Phase
from umbel.message import Task
from umbel.privacy.sa1.conversation import STEPS
from umbel.privacy.sa1.masks import Masks
from umbel.privacy.sa1.ring import GROUP, WORDS
from umbel.runtimes.halves import client_half
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.gate import Gate
from umbel.runtimes.node.rules import Policy, Privacy
from umbel.runtimes.node.vault import ATTEMPT_STEPS, is_step
from umbel.runtimes.secure import keyring_for, purpose_for, secured

SECURE = fl.Secure()
MODEL = Arrays.of([np.zeros(2, np.float32)])


class Same(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}

    def evaluate(self, parameters, config):
        return 0.5, 1, {}


PLAN = {"client_half": client_half(secured(fl.FedAvg(), SECURE)), "run": "run"}
NAMES = ("north", "south", "west")


def node_of(name="north", **more) -> AtNode:
    return AtNode(lambda: Same(), {**PLAN, **more}, name)


def letter_of(step, message, *, round=1, attempt=0, kind="fit", name="north", **more) -> Letter:
    own = {"step": step, "message": message, **more}
    number = STEPS.index(step)
    place = ("run", round, attempt * ATTEMPT_STEPS + number, number, kind, name, 0)
    return Letter(*place, own, {}, (), MODEL.digest, {}, None, float("inf"))


def offer(clients=3, leadership=1, number=0, run="run") -> bytes:
    keys = keyring_for(SECURE, run)
    keys.leadership, keys._number = leadership, number
    return keys._offer(clients).data


def played(node, letter):
    return node.answer(letter, {MODEL.digest: MODEL})


class Federation:
    """Three nodes, and a server that plays sums with them."""

    def __init__(self):
        self.nodes, self.keys = {name: node_of(name) for name in NAMES}, keyring_for(SECURE, "run")
        self.letters = {}

    def sum(self, number, kind="fit", until=None):
        """The opened sum's values; None if it is left before the step `until`."""
        schema = {"delta": MODEL.schema} if kind == "fit" else {}
        purpose = purpose_for(SECURE, Phase(number, kind, NAMES), Task(number, MODEL), schema)
        talk = self.keys.conversation(purpose, NAMES)
        while (turn := talk.go_on()) is not None:
            step, told = turn
            for name, own in told.items():
                letter = self.letters[name, step] = letter_of(step, **own, round=number, kind=kind, name=name)
                if step == until:
                    continue
                answer = played(self.nodes[name], letter)
                assert answer.verdict == "done", answer.reason
                if step == "mask":
                    talk.masked(name, np.array(answer.update.groups[GROUP].arrays[WORDS]), answer.update.own)
                else:
                    talk.took(name, answer.update.own)
            if step == until:
                return None
        decoded = talk.decoded()
        self.keys.opened(talk)
        return decoded.values


def test_no_secret_is_in_an_answer_and_none_but_masks_of_one_vector_reaches_the_client_s_process():
    federation = Federation()
    for number in (1, 2):
        assert federation.sum(number) is not None
    for node in federation.nodes.values():
        assert [letter.own["step"] for letter in node.seen] == ["mask", "mask"]
        assert all(set(letter.mine) == {"masks", "told"} for letter in node.seen)
        assert len({letter.mine["masks"] for letter in node.seen}) == 2
    answer = played(node_of(), letter_of("advertise", offer()))
    assert set(answer.update.own) == {"message"}


def test_a_step_that_goes_on_with_an_unknown_sum_is_refused():
    answer = played(node_of(), letter_of("agree", b""))
    assert answer.verdict == "refused"
    assert "the secure sum is not known here" in answer.reason


@pytest.mark.parametrize("step", ["mask", "release"])
def test_an_ask_that_comes_again_gets_the_same_answer_and_the_step_is_not_taken_twice(step):
    """A link that broke, say: the server cannot know whether it was answered."""
    federation = Federation()
    federation.sum(1, "evaluate")
    letter, node = federation.letters["north", step], federation.nodes["north"]
    seen = len(node.seen)
    first, again = (played(node, letter) for _ in range(2))
    assert (first.verdict, first.update.own) == ("done", again.update.own)
    assert len(node.seen) == seen
    other = replace(letter, key=1)
    assert played(node, other).verdict == "refused"


FLOORS = {
    "min_cohort": ({"min_cohort": 7}, "the cohort has 6 clients, the owner allows sums of at least 7"),
    "min_threshold_share": ({"min_threshold_share": 0.9}, "the threshold is 5 of 6, the owner wants at least 6"),
}


@pytest.mark.parametrize("name", FLOORS)
def test_an_owner_s_floors_are_the_node_s_whatever_the_plan_says(name):
    wanted, reason = FLOORS[name]
    assert Privacy(**wanted).floors == wanted
    for floors, verdict in (({}, "done"), (Privacy(**wanted).floors, "refused")):
        answer = played(node_of(floors=floors), letter_of("advertise", offer(6)))
        assert answer.verdict == verdict, answer.reason
    assert reason in answer.reason


def test_an_owner_s_weight_cap_is_the_node_s_whatever_the_server_says():
    federation = Federation()
    federation.nodes["north"] = node_of(floors=Privacy(max_weight_cap=0.5).floors)
    with pytest.raises(AssertionError, match=r"weights up to 1000 would count, the owner allows 0\.5"):
        federation.sum(1)


def test_the_same_offer_is_not_taken_twice():
    node = node_of()
    played(node, letter_of("advertise", offer()))
    again = played(node, letter_of("advertise", offer(), attempt=1))
    assert again.verdict == "refused"
    assert "keys are made once" in again.reason


def test_another_leadership_s_offers_are_taken_and_the_older_one_s_no_more():
    node = node_of()
    assert played(node, letter_of("advertise", offer(number=9), round=9)).verdict == "done"
    assert played(node, letter_of("advertise", offer(leadership=2), round=6)).verdict == "done"
    again = played(node, letter_of("advertise", offer(number=10), round=10))
    assert again.verdict == "refused"
    assert "another server leads the run since" in again.reason


@pytest.mark.parametrize("kind", ["fit", "evaluate"])
def test_of_what_was_under_way_no_step_is_answered_after_a_newer_offer(kind):
    federation = Federation()
    federation.sum(1)
    federation.sum(2, kind, until="release")  # its masked vectors are at the server
    node = federation.nodes["north"]
    played(node, letter_of("advertise", offer(leadership=2), round=2, attempt=1))
    assert node.vault._kept.ahead is None
    answer = played(node, federation.letters["north", "release"])
    assert (answer.verdict, answer.update) == ("refused", None)


@pytest.mark.parametrize("other", [{"round": 2}, {"attempt": 1}, {"kind": "evaluate"}])
def test_a_sum_of_another_turn_than_the_one_that_is_asked_is_refused(other):
    federation = Federation()
    federation.sum(1, until="mask")
    turn = {"round": 1, "attempt": 0, "kind": "fit", **other}
    letter = letter_of("mask", federation.letters["north", "mask"].own["message"], **turn)
    answer = played(federation.nodes["north"], letter)
    assert answer.verdict == "refused"
    assert "a server sends that of the turn that it asks" in answer.reason


def test_an_offer_of_another_run_is_refused():
    answer = played(node_of(), letter_of("advertise", offer(run="other")))
    assert "the offer is of run 'other', and the ask of 'run'" in answer.reason


@pytest.mark.parametrize("step", STEPS)
def test_a_step_in_a_plain_run_is_refused(step):
    node = AtNode(lambda: Same(), {"client_half": client_half(fl.FedAvg()), "run": "run"}, "north")
    answer = played(node, letter_of(step, b""))
    assert answer.verdict == "unwilling"
    assert "this run has none" in answer.reason


@pytest.mark.parametrize("own", [{}, {"root": bytes(32), "kept": b""}, {"masks": b"", "told": {}}])
def test_a_plain_ask_in_a_run_of_secure_rounds_is_refused(own):
    letter = replace(letter_of("mask", b""), own=own)
    answer = played(node_of(), letter)
    assert answer.verdict == "unwilling"
    assert "the ask is no step of one" in answer.reason


def test_masks_of_the_server_s_making_are_not_taken():
    federation = Federation()
    federation.sum(1, until="mask")
    letter, node = federation.letters["north", "mask"], federation.nodes["north"]
    masks = Masks("SA1", ((bytes(32), False),)).data
    letter = replace(letter, own={**letter.own, "masks": masks, "told": {"all": b"mine"}})
    answer = played(node, letter)
    assert set(answer.update.own) <= {"signature", "ahead"}
    assert node.seen[0].mine["masks"] != masks


@pytest.mark.parametrize("step", STEPS)
def test_a_secure_round_counts_once_for_the_policy(step):
    gate = Gate(Policy())
    assert asyncio.run(gate.why_not_ask(letter_of(step, b""))) is None
    assert gate._count == (step == "mask")


@pytest.mark.parametrize("step", [["mask"], {"mask": 1}, 7, None])
def test_a_step_that_is_no_word_is_none(step):
    letter = replace(letter_of("mask", b""), own={"step": step, "message": b""})
    assert not is_step(letter)
    assert played(node_of(), letter).verdict == "unwilling"


def test_a_client_without_evaluate_takes_no_part_in_sums_of_it():
    """The sum of one that has it among others that have not is that one's loss."""

    class Trains(fl.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

    node = AtNode(lambda: Trains(), PLAN, "north")
    answer = played(node, letter_of("advertise", offer(), kind="evaluate"))
    assert "has no evaluate" in answer.reason
    assert played(node, letter_of("advertise", offer())).verdict == "done"


def test_an_offer_ahead_of_another_run_is_not_taken():
    federation = Federation()
    federation.sum(1, until="mask")
    letter = federation.letters["north", "mask"]
    for run, is_taken in (("other", False), ("run", True)):
        node = federation.nodes["north"]
        before = node.vault._kept
        answer = played(node, replace(letter, own={**letter.own, "ahead": offer(number=9, run=run)}, key=len(run)))
        assert ("ahead" in answer.update.own) is is_taken
        node.vault._kept = before


def test_an_answer_that_is_still_here_is_found_before_anything_is_counted():
    federation = Federation()
    federation.sum(1, "evaluate")
    node, letter = federation.nodes["north"], federation.letters["north", "mask"]
    assert node.worker.answered(letter) is not None
    assert node.worker.answered(replace(letter, key=1)) is None


def test_a_step_of_an_encrypted_sum_is_none_of_a_masked_one():
    answer = played(node_of(), replace(letter_of("mask", b""), own={"step": "encrypt", "message": b""}))
    assert "has no step 'encrypt'" in answer.reason
