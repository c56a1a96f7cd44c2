"""What a node keeps between the steps of an encrypted round never leaves; no step goes on with what is not there."""

import itertools

import numpy as np
import pytest
from tests.node.at_node import AtNode

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Phase
from umbel.message import Task
from umbel.privacy.ckks.ciphered import CARRIED, TOTAL, bytes_in, carried
from umbel.privacy.tries import offered
from umbel.runtimes.encrypted import conversation, encrypted
from umbel.runtimes.halves import client_half, restored
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.ciphers import ATTEMPT_STEPS
from umbel.runtimes.node.rules import Privacy

from .talk import SMALL

pytest.importorskip("tenseal")
SECURE = fl.Secure(secure_sum=SMALL)
MODEL = Arrays.of([np.zeros(2, np.float32)])
OTHER = Arrays.of([np.ones(2, np.float32)])
NAMES = ("north", "south", "west", "east", "hill", "coast")
HALF = client_half(encrypted(fl.FedAvg(), SECURE))


KEYS = itertools.count()
"""An ask that comes again has the same key, and is answered as before."""


class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 0.5], 1, {}

    def evaluate(self, parameters, config):
        return 0.5, 1, {}


def host_of(name="north", **plan) -> AtNode:
    return AtNode(lambda: Adds(), {"client_half": HALF, "run": "run", **plan}, name)


def conversed(names=NAMES, *, round=1, attempt=0, kind="fit", model=MODEL, secure=SECURE):
    schema = {"delta": model.schema} if kind == "fit" else {}
    return conversation(secure, "run", Phase(round, kind, names, attempt), Task(round, model), schema)


class Round:
    """A conversation with hosts."""

    def __init__(self, hosts, names=None, *, model=MODEL, **turn):
        self.hosts, self.turn, self.model = hosts, {"round": 1, "attempt": 0, "kind": "fit", **turn}, model
        self.talk = conversed(tuple(names or hosts), model=model, **turn)
        self.reasons, self.answers = {}, {}

    def letter(self, name, step, message):
        number, turn = ("advertise", "deal", "encrypt", "agree", "open").index(step), self.turn
        place = ("run", turn["round"], turn["attempt"] * ATTEMPT_STEPS + number, number, turn["kind"], name, next(KEYS))
        own = {"step": step, "message": message}
        extra = {TOTAL: "total"} if step == "open" else {}
        return Letter(*place, own, {}, (), self.model.digest, extra, None, float("inf"))

    def asked(self, name, step, message, total=b""):
        blobs = {self.model.digest: self.model, "total": carried(total or b" ")}
        return self.hosts[name].answer(self.letter(name, step, message), blobs)

    def step(self, step, silent=()):
        total = self.talk.total if step == "open" else b""
        for name, message in self.talk.messages(step).items():
            if name in silent:
                continue
            answer = self.answers[name, step] = self.asked(name, step, message, total)
            if answer.verdict != "done":
                self.reasons[name] = answer.reason
                continue
            large = answer.update.groups.get(CARRIED)
            said = bytes_in(large.arrays) if large else answer.update.own["message"]
            self.talk.took(step, name, said)

    def until(self, last, silent=()):
        for step in self.talk.turns:
            if step == last:
                return self
            self.step(step, silent)
        return self


def federation(names=NAMES, **plan):
    return {name: host_of(name, **plan) for name in names}


def test_a_sum_is_opened_and_nothing_but_messages_leaves():
    under_way = Round(federation()).until(None)
    assert under_way.talk.decoded().values == pytest.approx([3.0, 3.0], abs=1e-4)
    for (_, step), answer in under_way.answers.items():
        large = step in ("encrypt", "open")
        assert set(answer.update.own) == (set() if large else {"message"})
        assert set(answer.update.groups) == ({CARRIED} if large else set())
    opener = next(name for name, step in under_way.answers if step == "open")
    assert [len(host.host.ciphers._members) for host in under_way.hosts.values()] == [int(n != opener) for n in NAMES]


def test_a_step_that_goes_on_with_an_unknown_round_is_refused():
    answer = Round(federation()).asked("north", "agree", b"")
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
    for floors, verdict in (({}, "done"), (Privacy(**wanted).floors, "refused")):
        answer = Round({"north": host_of(floors=floors)}, NAMES).asked("north", "advertise", conversed().offer.data)
        assert answer.verdict == verdict, answer.reason
    assert reason in answer.reason


def advertised(host, model=MODEL, **turn):
    under_way = Round({"north": host}, NAMES, model=model, **turn)
    return under_way.asked("north", "advertise", under_way.talk.offer.data)


def test_the_same_attempt_is_not_begun_twice():
    host = host_of()
    assert advertised(host).verdict == "done"
    assert "keys of a round are made once" in advertised(host).reason


def test_another_leadership_s_offers_are_taken_though_it_goes_back_and_the_older_one_s_no_more():
    host = host_of()
    older, newer = (offered(leadership, 0) for leadership in (1, 2))
    assert advertised(host, round=9, attempt=older).verdict == "done"
    assert advertised(host, round=6, attempt=newer).verdict == "done"
    for turn in ({"round": 10, "attempt": older}, {"round": 6, "attempt": older, "kind": "evaluate"}):
        again = advertised(host, **turn)
        assert again.verdict == "refused"
        assert "another server leads the run since" in again.reason


def test_of_what_was_under_way_no_step_is_answered_after_a_newer_offer():
    hosts = federation()
    under_way = Round(hosts).until("agree")
    sets = under_way.talk.messages("agree")["north"]
    newer = Round(hosts, attempt=offered(1, 0))
    newer.step("advertise")
    assert "does not know of the secure round" in under_way.asked("north", "agree", sets).reason
    assert [len(host.host.ciphers._members) for host in hosts.values()] == [1] * len(NAMES)


@pytest.mark.parametrize("other", [{"round": 2}, {"attempt": 1}, {"kind": "evaluate"}])
def test_an_offer_of_another_turn_than_the_one_that_is_asked_is_refused(other):
    answer = Round({"north": host_of()}, NAMES).asked("north", "advertise", conversed(**other).offer.data)
    assert answer.verdict == "refused"
    assert "a server sends that of the turn that it asks" in answer.reason


def test_what_is_no_sum_is_tried_once_and_never_again():
    """Who may try again and again learns of the key from what is refused."""
    under_way = Round(federation()).until("open")
    [(name, message)] = under_way.talk.messages("open").items()
    total = under_way.talk.total
    first = under_way.asked(name, "open", message, total[:-1])
    assert first.verdict == "refused"
    assert "does not know of the secure round" in under_way.asked(name, "open", message, total).reason


def test_a_sum_that_differs_in_one_client_from_one_that_was_signed_is_not_signed():
    """The first one may have been opened by somebody else, and the server killed or forgetful since."""
    hosts = federation()
    Round(hosts).until("open")
    names = NAMES[:-1]
    again = Round(hosts, names, attempt=1).until("agree")
    again.step("agree")
    assert set(again.reasons) == set(names)
    assert "differs from it in 1 of its clients" in again.reasons["north"]
    for turn in ({"names": NAMES, "attempt": 2}, {"names": names, "attempt": 3, "model": OTHER}):
        fine = Round(hosts, **turn).until(None)
        assert not fine.reasons
        assert fine.talk.summed == turn["names"]


def test_what_was_not_signed_does_not_count():
    hosts = federation(floors={"min_cohort": 3})
    strict = host_of("coast", floors={"min_cohort": 6})
    hosts["coast"] = strict
    Round(hosts).until("agree")
    under_way = Round(hosts, attempt=1)
    for step in ("advertise", "deal"):
        under_way.step(step)
    under_way.step("encrypt", silent={"north"})
    under_way.step("agree")
    assert "at least 6 have to be in it" in under_way.reasons["coast"]
    assert not strict.worker._opened._book._sums


def test_a_party_of_the_servers_making_is_not_taken():
    under_way = Round({"north": host_of()}, NAMES)
    letter = under_way.letter("north", "advertise", under_way.talk.offer.data)
    letter.own.update(root=bytes(32), member=b"whatever", party=None, last=(9, 9))
    ask = under_way.hosts["north"].host.ciphers.filled("run", letter.ask({MODEL.digest: MODEL}))
    assert set(ask.own) == {"step", "message", "last", "party"}
    assert ask.own["last"] is None


def test_another_model_than_the_offer_s_is_not_trained():
    under_way = Round(federation()).until("encrypt")
    message = under_way.talk.messages("encrypt")["north"]
    under_way.model = OTHER
    answer = under_way.asked("north", "encrypt", message)
    assert "this client was sent another model than the offer binds" in answer.reason


@pytest.mark.parametrize("step", ["open", "sing"])
def test_a_step_that_is_none_or_comes_without_a_sum_is_refused(step):
    under_way = Round(federation()).until("open")
    letter = under_way.letter("north", "open", b"")
    letter.own["step"] = step
    letter.extra.clear()
    answer = under_way.hosts["north"].answer(letter, {MODEL.digest: MODEL})
    assert f"has no step '{step}', or not without a sum to open" in answer.reason


def test_the_client_half_of_a_plan_comes_back():
    assert {"name": "Ciphered", "inner": client_half(fl.FedAvg())} == HALF
    assert restored(HALF).inner == fl.FedAvg()


def test_where_tenseal_is_not_installed_the_run_is_not_taken(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tenseal", None)
    with pytest.raises(fl.ConfigError, match=r"pip install 'umbel\[ckks\]'"):
        host_of()
