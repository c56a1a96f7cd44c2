"""What a node keeps between the steps of a secure round never leaves, and no step goes on with what is not there."""

from __future__ import annotations

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Phase
from umbel.message import Task
from umbel.privacy.tries import offered
from umbel.runtimes.halves import client_half
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.gate import Gate
from umbel.runtimes.node.host import Host
from umbel.runtimes.node.rules import Policy, Privacy
from umbel.runtimes.node.vault import ATTEMPT_STEPS
from umbel.runtimes.secure import offer_for, secured

SECURE = fl.Secure()
MODEL = Arrays.of([np.zeros(2, np.float32)])


class Same(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


def host_of(strategy) -> Host:
    return Host(lambda: Same(), {"client_half": client_half(strategy), "run": "run"}, "north")


def letter_of(step: str, number: int, message: bytes, *, round=1, attempt=0, kind="fit") -> Letter:
    own = {"step": step, "message": message, "words": 8}
    place = ("run", round, attempt * ATTEMPT_STEPS + number, number, kind, "north", 0)
    return Letter(*place, own, {}, (), MODEL.digest, {}, None, float("inf"))


def offer(*more: str, round=1, attempt=0, kind="fit") -> bytes:
    task = Task(round, MODEL)
    phase = Phase(round, kind, ("north", "south", "west", *more), attempt)
    return offer_for(SECURE, "run", phase, task, {"delta": MODEL.schema}, bytes(32)).data


def played(host: Host, letter: Letter):
    return host.play(letter, {MODEL.digest: MODEL}, None)[0]


def test_no_secret_is_in_an_answer():
    answer = played(host_of(secured(fl.FedAvg(), SECURE)), letter_of("advertise", 0, offer()))
    assert answer.verdict == "done"
    assert set(answer.update.own) == {"message"}


def test_a_step_that_goes_on_with_an_unknown_round_is_refused():
    answer = played(host_of(secured(fl.FedAvg(), SECURE)), letter_of("agree", 3, b""))
    assert answer.verdict == "refused"
    assert "this node does not know of the secure round" in answer.reason


FLOORS = {
    "min_cohort": ({"min_cohort": 7}, "the cohort has 6 clients, the owner allows sums of at least 7"),
    "min_threshold_share": ({"min_threshold_share": 0.9}, "the threshold is 5 of 6, the owner wants at least 6"),
    "max_weight_cap": ({"max_weight_cap": 0.5}, "weights up to 1000 would count, the owner allows 0.5"),
}


@pytest.mark.parametrize("name", FLOORS)
def test_an_owner_s_floors_are_the_node_s_whatever_the_plan_says(name):
    wanted, reason = FLOORS[name]
    assert Privacy(**wanted).floors == wanted
    plan = {"client_half": client_half(secured(fl.FedAvg(), SECURE)), "run": "run"}
    for floors, verdict in (({}, "done"), (Privacy(**wanted).floors, "refused")):
        host = Host(lambda: Same(), {**plan, "floors": floors}, "north")
        answer = played(host, letter_of("advertise", 0, offer("east", "hill", "coast")))
        assert answer.verdict == verdict, answer.reason
    assert reason in answer.reason


def test_the_same_attempt_is_not_begun_twice():
    host = host_of(secured(fl.FedAvg(), SECURE))
    played(host, letter_of("advertise", 0, offer()))
    again = played(host, letter_of("advertise", 0, offer()))
    assert again.verdict == "refused"
    assert "keys of a round are made once" in again.reason


def begun(host: Host, **turn):
    return played(host, letter_of("advertise", 0, offer(**turn), **turn))


def test_another_leadership_s_offers_are_taken_though_it_goes_back_and_the_older_one_s_no_more():
    host = host_of(secured(fl.FedAvg(), SECURE))
    older, newer = (offered(leadership, 0) for leadership in (1, 2))
    assert begun(host, round=9, attempt=older).verdict == "done"
    assert begun(host, round=6, attempt=newer).verdict == "done"
    for turn in ({"round": 10, "attempt": older}, {"round": 6, "attempt": older, "kind": "evaluate"}):
        again = begun(host, **turn)
        assert again.verdict == "refused"
        assert "another server leads the run since" in again.reason


@pytest.mark.parametrize("kind", ["fit", "evaluate"])
def test_of_what_was_under_way_no_step_is_answered_after_a_newer_offer(kind):
    host = host_of(secured(fl.FedAvg(), SECURE))
    before, after = ({"attempt": offered(leadership, 0)} for leadership in (1, 2))
    begun(host, kind=kind, **before)
    # Until then it is, with what is wrong with this header.
    share = letter_of("share", 1, b"", kind=kind, **before)
    assert "does not know of the secure round" not in played(host, share).reason
    begun(host, **after)
    assert "does not know of the secure round" in played(host, share).reason
    assert len(host.vault._members) == 1


@pytest.mark.parametrize("other", [{"round": 2}, {"attempt": 1}, {"kind": "evaluate"}])
def test_an_offer_of_another_turn_than_the_one_that_is_asked_is_refused(other):
    answer = played(host_of(secured(fl.FedAvg(), SECURE)), letter_of("advertise", 0, offer(**other)))
    assert answer.verdict == "refused"
    assert "a server sends that of the turn that it asks" in answer.reason


def test_a_later_step_in_a_plain_run_is_refused():
    answer = played(host_of(fl.FedAvg()), letter_of("mask", 2, b""))
    assert answer.verdict == "unwilling"
    assert "this run has none" in answer.reason


def test_a_party_of_the_servers_making_is_not_taken():
    letter = letter_of("advertise", 0, offer())
    letter.own["root"] = bytes(32)
    letter.own["member"] = b"whatever"
    letter.own["last"] = None
    host = host_of(secured(fl.FedAvg(), SECURE))
    ask = host.vault.filled("run", letter.ask({MODEL.digest: MODEL}))
    assert set(ask.own) == {"step", "message", "words", "last", "party"}


@pytest.mark.parametrize(("step", "counts"), [("advertise", True), ("share", False), ("mask", False)])
def test_a_secure_round_counts_once_for_the_policy(step, counts):
    gate = Gate(Policy())
    assert gate._is_new(letter_of(step, 0, b"")) is counts
