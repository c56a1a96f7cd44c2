"""Of two sums over the same model a node opens only what does not show a single client's update by their difference."""

from __future__ import annotations

import numpy as np
import pytest
from tests.node.at_node import AtNode

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Phase
from umbel.privacy.sa1.conversation import STEPS
from umbel.privacy.sa1.ring import GROUP, WORDS
from umbel.privacy.tries import offered
from umbel.runtimes.halves import client_half
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.opened_sums import KEPT, OpenedSums
from umbel.runtimes.node.vault import ATTEMPT_STEPS
from umbel.runtimes.privately import Parts
from umbel.runtimes.secure import keyring_for, purpose_for, secured

NAMES = ("north", "south", "west", "east", "hill", "coast")
SECURE = fl.Secure()
NOISY = fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-3, sampling="every", noise="distributed")


class Same(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 0.1], 1, {}


def nodes_of(strategy, settings):
    half = client_half(secured(strategy, settings))
    return {name: AtNode(lambda: Same(), {"client_half": half, "run": "run"}, name) for name in NAMES}


def opened_by(nodes, strategy, settings, model, names, *, leadership, round=1):
    """Why these clients did not open their sum; None if they did."""
    task = strategy.task(strategy.init(model), round)
    phase = Phase(round, "fit", tuple(names), offered(leadership, 0))
    keys = keyring_for(settings, "run")
    keys.leadership = leadership
    talk = keys.conversation(purpose_for(settings, phase, task, strategy.schema(task, {})), phase.clients)
    arrays = {"": task.arrays, **task.extra}
    digests = {name: value.digest for name, value in task.extra.items()}
    while (turn := talk.go_on()) is not None:
        step, told = turn
        for name, said in told.items():
            number = STEPS.index(step)
            place = ("run", round, phase.attempt * ATTEMPT_STEPS + number, number, "fit", name, 0)
            own = {"step": step, **said}
            letter = Letter(*place, own, {}, (), task.arrays.digest, digests, None, float("inf"))
            answer = nodes[name].answer(letter, {value.digest: value for value in arrays.values()})
            if answer.verdict != "done":
                return answer.reason
            if step == "mask":
                talk.masked(name, np.array(answer.update.groups[GROUP].arrays[WORDS]), answer.update.own)
            else:
                talk.took(name, answer.update.own)
    talk.decoded()
    return None


def model_of(value=0.0):
    return Arrays.of([np.full(2, value, np.float32)])


def test_a_sum_without_one_client_is_not_opened_after_one_with_it():
    strategy = fl.FedAvg()
    nodes = nodes_of(strategy, SECURE)

    def tried(leadership, names, value=0.0):
        return opened_by(nodes, strategy, SECURE, model_of(value), names, leadership=leadership)

    assert tried(1, NAMES) is None
    # The server was killed after it had opened the sum, and one client is gone when it is back.
    assert "differs from it in 1 of its clients" in tried(2, NAMES[1:])
    assert "differs from it in 2 of its clients" in tried(3, NAMES[2:])
    assert tried(4, NAMES) is None
    assert tried(5, NAMES[3:]) is None  # three are missing, whose updates are hidden in their sum
    assert "differs from it in" in tried(6, NAMES[2:])
    assert tried(7, NAMES[2:], value=1.0) is None  # another model, other updates


def test_noise_of_the_clients_own_hides_an_update_in_a_difference_too():
    config = fl.ServerConfig(3, fraction_evaluate=0.0, min_available_clients=5)
    parts = Parts(fl.FedAvg(weighting="uniform"), config, SECURE).under(NOISY, 6, has_model=True)
    nodes = nodes_of(parts.strategy, parts.coordinator)
    for leadership, names in ((1, NAMES), (2, NAMES[1:])):
        reason = opened_by(nodes, parts.strategy, parts.coordinator, model_of(), names, leadership=leadership)
        assert reason is None


@pytest.mark.parametrize(
    ("members", "fine"),
    [("abcd", True), ("abc", False), ("abcde", False), ("abce", False), ("aef", True), ("xyz", True)],
)
def test_what_is_fine_counts_who_is_in_one_sum_only(members, fine):
    opened = OpenedSums(3)
    opened.add(("run", "fit", b"model"), frozenset("abcd"))
    assert (opened.why_not(("run", "fit", b"model"), frozenset(members)) is None) is fine
    for other in (("run", "evaluate", b"model"), ("run", "fit", b"other"), ("else", "fit", b"model")):
        assert opened.why_not(other, frozenset(members)) is None


def test_not_more_models_are_remembered_than_a_long_run_has_room_for():
    opened = OpenedSums(3)
    for number in range(KEPT + 1):
        opened.add(("run", "fit", str(number).encode()), frozenset("abcd"))
    assert opened.why_not(("run", "fit", b"0"), frozenset("abc")) is None
    assert opened.why_not(("run", "fit", b"1"), frozenset("abc")) is not None
