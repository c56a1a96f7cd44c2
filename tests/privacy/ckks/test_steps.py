"""An encrypted round at a server with nodes that fall silent, leave or lie: it ends, with a sum or with the reasons.

It is all bookkeeping: time is an argument.
"""

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Rounds
from umbel.message import Group, Update
from umbel.privacy.ckks.ciphered import CARRIED, carried
from umbel.privacy.ckks.conversation import STEPS
from umbel.runtimes.encrypted import encrypted
from umbel.runtimes.halves import client_half
from umbel.runtimes.mail import Answer, read_letter, write_answer
from umbel.runtimes.node.host import Host
from umbel.runtimes.server.events import Came, Deliver, Keep, Left, Settle
from umbel.runtimes.server.nodes import Nodes
from umbel.runtimes.server.secure import STEP_S, SecureNodePlayers
from umbel.stores import MemoryStore, RunInfo

from .talk import SMALL

pytest.importorskip("tenseal")
NAMES = ("0", "1", "2", "3")
SECURE = fl.Secure(clip=4.0, weight_cap=4.0, secure_sum=SMALL)
STRATEGY = fl.FedAvg()
NOW_S = 100.0


class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 2, {}


class Round:
    """An encrypted round under way at a server.

    Args:
        silent: (client, step) that is not answered.
        false: (client, step) → what is answered in the place of the truth, of which it is a function.
    """

    def __init__(self, *, names=NAMES, silent=(), false=None, until_s=None):
        self.nodes, self.now_s = Nodes(names=names), NOW_S
        self.silent, self.false = set(silent), false or {}
        coordinator = Rounds(fl.ServerConfig(seed=1, round_timeout=until_s), self.nodes, timed=True)
        store = MemoryStore()
        store.create(RunInfo("run", "steps", 0.0, "running", {}))
        more = {"seed": 1, "clock": lambda: self.now_s}
        self.players = SecureNodePlayers(SECURE, "run", STRATEGY, self.nodes, store, **more)
        self.players.leadership = 1
        plan = {"run": "run", "client_half": client_half(encrypted(STRATEGY, SECURE))}
        self.hosts = {name: Host(lambda: Adds(), plan, name) for name in names}
        self.task = STRATEGY.task(STRATEGY.init(Arrays.of({"0": np.zeros(2)})), 1)
        self.asked, self.tally = [], None
        self.kept = frozenset()
        self.steps = self.players.fit(coordinator.begin(NOW_S), self.task, coordinator)
        self.wait_s = next(self.steps)

    def play(self):
        """Answer what is asked until the round is over; who does not answer lets the time pass."""
        while self.tally is None:
            events = [
                self.answer(one) for one in self.delivered() if (one.client, one.ask.own["step"]) not in self.silent
            ]
            if not events:
                assert self.wait_s < np.inf, f"waits for ever after {self.asked[-3:]}"
                self.now_s = self.wait_s
            self.send(events)
        return self

    def delivered(self):
        outbox, self.players.outbox = self.players.outbox, []
        delivered = [one for one in outbox if isinstance(one, Deliver)]
        self.kept = next((one.digests for one in reversed(outbox) if isinstance(one, Keep)), self.kept)
        for one in delivered:
            self.asked.append((one.client, one.ask.own["step"]))
            assert set(one.blobs) <= self.kept
        return delivered

    def answer(self, deliver):
        letter = read_letter(memoryview(b"".join(map(bytes, deliver.parts))))
        answer, _ = self.hosts[deliver.client].play(letter, deliver.blobs, None)
        written = write_answer(self.false.get((deliver.client, letter.own["step"]), lambda truth: truth)(answer))
        return Came(deliver.client, memoryview(b"".join(map(bytes, written))), 0)

    def send(self, events):
        try:
            self.wait_s = self.steps.send(events)
        except StopIteration as end:
            self.tally = end.value[0]

    @property
    def failed(self):
        return {receipt.client: receipt.reason for receipt in self.tally.receipts.failures()}


def check_exact(found, gone=()):
    assert found.tally.receipts.done == len(NAMES) - len(gone)
    assert set(found.failed) == set(gone)
    [reduced] = found.tally.accumulator.result().values()
    assert reduced.weight == 2.0 * found.tally.receipts.done
    assert reduced.total.values == pytest.approx([reduced.weight] * 2, rel=1e-6)


def test_a_round_in_which_all_answer_takes_five_steps_and_no_time():
    found = Round().play()
    check_exact(found)
    assert found.now_s == NOW_S
    assert [step for _, step in found.asked] == ["advertise"] * 4 + ["deal"] + ["encrypt"] * 4 + ["agree"] * 4 + [
        "open"
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", NAMES)
def test_a_node_that_falls_silent_at_any_step_is_left_out_or_done_without(name, step):
    found = Round(silent={(name, step)}, until_s=1000.0).play()
    check_exact(found, [name] if step in ("advertise", "encrypt") else [])
    assert found.now_s <= NOW_S + 1000 + STEP_S + 1


@pytest.mark.parametrize("step", STEPS)
def test_where_all_fall_silent_the_round_ends_with_the_reason(step):
    found = Round(silent={(name, step) for name in NAMES}, until_s=1000.0).play()
    assert found.tally.receipts.done == 0
    assert f"did not answer in step '{step}' of the secure round" in found.failed["0"]
    assert found.now_s <= NOW_S + 1000 + 5 * len(NAMES) * STEP_S


def test_a_dealer_that_leaves_is_waited_for_no_longer_than_others_and_the_next_one_deals():
    found = Round()
    found.send([found.answer(one) for one in found.delivered()])
    [dealer] = found.delivered()
    found.nodes.names = tuple(name for name in NAMES if name != dealer.client)
    found.send([Left(dealer.client)])
    assert found.wait_s == NOW_S + 10
    found.now_s = found.wait_s
    found.send([])
    [other] = found.delivered()
    assert (other.ask.own["step"], other.client != dealer.client) == ("deal", True)
    found.silent = {(dealer.client, "encrypt")}
    found.send([found.answer(other)])
    check_exact(found.play(), [dealer.client])


def other(**changed):
    """An answer whose update is another one."""
    return lambda answer: Answer(
        answer.run,
        answer.round,
        answer.attempt,
        answer.kind,
        answer.client,
        update=Update(changed.get("groups", {}), 0.0, own=changed.get("own", {})),
    )


LIES = {
    "no message": other(),
    "a text": other(own={"message": "none"}),
    "other bytes": other(own={"message": b"none"}),
    "carries other bytes": other(groups={CARRIED: Group(carried(b"none"), 1.0)}),
    "carries another array": other(groups={CARRIED: Group(Arrays.of({"x": np.zeros(3)}), 1.0)}),
    "an update": other(groups={"delta": Group(Arrays.of({"0": np.zeros(2)}), 1.0)}),
    "a failure": lambda answer: Answer(
        answer.run, answer.round, answer.attempt, answer.kind, answer.client, verdict="failed", reason="no data today"
    ),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("step", STEPS)
def test_a_node_that_answers_something_else_at_any_step_is_left_out_or_done_without(step, lie):
    found = Round(false={("1", step): LIES[lie]}).play()
    check_exact(found, ["1"] if step in ("advertise", "encrypt") else [])


def test_with_two_of_four_left_there_is_no_sum_and_each_reason_is_told():
    found = Round(false={(name, "encrypt"): LIES["a failure"] for name in "01"}).play()
    assert found.tally.receipts.done == 0
    assert found.failed["0"] == "no data today"
    assert "2 of 4 clients sent encrypted vectors, 3 are needed" in found.failed["2"]


def test_more_clients_than_a_sum_has_room_for_end_the_round_with_the_reason():
    found = Round.__new__(Round)
    names = tuple(f"{number:02}" for number in range(65))
    nodes = Nodes(names=names)
    coordinator = Rounds(fl.ServerConfig(seed=1), nodes, timed=True)
    store = MemoryStore()
    store.create(RunInfo("run", "steps", 0.0, "running", {}))
    players = SecureNodePlayers(SECURE, "run", STRATEGY, nodes, store, seed=1, clock=lambda: NOW_S)
    task = STRATEGY.task(STRATEGY.init(Arrays.of({"0": np.zeros(2)})), 1)
    with pytest.raises(StopIteration) as end:
        next(players.fit(coordinator.begin(NOW_S), task, coordinator))
    found.tally = end.value.value[0]
    assert "of 2 to 64 clients, 65 are asked; use masks" in found.failed["00"]


def test_only_a_vector_in_the_sum_is_settled_as_taken():
    found = Round(silent={("3", "encrypt")}, until_s=1000.0).play()
    found.players.kept(1, found.tally, {})
    settled = [one for one in found.players.outbox if isinstance(one, Settle)]
    taken = {(one.client, one.attempt % 8) for one in settled if one.included}
    assert taken == {(name, STEPS.index("encrypt")) for name in "012"}
    assert {one.client for one in settled} == set(NAMES)


def test_an_answer_to_an_earlier_step_is_not_taken_for_that_to_this_one():
    found = Round()
    answers = [found.answer(one) for one in found.delivered()]
    found.send(answers)
    [dealer] = found.delivered()
    found.send([one for one in answers if one.client == dealer.client])
    assert found.delivered() == []
    found.send([found.answer(dealer)])
    assert {one.ask.own["step"] for one in found.delivered()} == {"encrypt"}
