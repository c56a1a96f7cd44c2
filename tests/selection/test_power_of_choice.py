"""Those with the highest known loss, of some that are drawn."""

import numpy as np
import pytest

import umbel as fl
from umbel.coordinators import Everyone, Experience, Rounds, Seen, ServerConfig, Streams
from umbel.errors import ConfigError, NotSupported
from umbel.message import Receipt

LOSSES = {str(n): Seen(float(n % 7)) for n in range(40)}
KNOWN = Experience(5, LOSSES)


def draw(selector, count, experience=KNOWN, population=40, key=1):
    return selector.draw(Everyone(population), key, count, experience)


def test_the_highest_losses_of_the_candidates_are_asked():
    candidates = draw(fl.Uniform(), 12)
    drawn = draw(fl.PowerOfChoice(candidates=12), 4)
    assert set(drawn) < set(candidates)
    assert sorted(LOSSES[c].loss for c in drawn) == sorted(LOSSES[c].loss for c in candidates)[-4:]


@pytest.mark.parametrize("candidates", [1, 4])
def test_as_many_candidates_as_are_asked_are_uniform(candidates):
    assert set(draw(fl.PowerOfChoice(candidates=candidates), 4)) == set(draw(fl.Uniform(), 4))


def test_who_was_never_asked_goes_first():
    known = Experience(1, {client: seen for client, seen in LOSSES.items() if client not in {"3", "17"}})
    assert set(draw(fl.PowerOfChoice(candidates=40), 3, known)[:2]) == {"3", "17"}


def test_who_never_told_a_loss_counts_as_the_mean():
    known = Experience(1, {"0": Seen(1.0), "1": Seen(), "2": Seen(5.0)})
    assert draw(fl.PowerOfChoice(candidates=3), 3, known, 3) == ["2", "1", "0"]


def test_candidates_are_drawn_as_the_plan_says():
    heavy = fl.Weighted(lambda client: int(client) < 5)
    assert {int(c) for c in draw(fl.PowerOfChoice(candidates=30, among=heavy), 9)} == set(range(5))


def leader(selector, population=10, **config):
    return Rounds(ServerConfig(**{"seed": 1, "num_rounds": 9, "selector": selector, **config}), Everyone(population))


def answers(phase, losses):
    return [Receipt(c, phase.round, 0, "done", examples=1.0, loss=losses.get(c)) for c in phase.clients]


def test_the_order_of_answers_changes_nothing_that_is_learned():
    one, other = (leader(fl.PowerOfChoice(candidates=10, remembers=4)) for _ in range(2))
    receipts = answers(one.begin(), {str(n): float(n) for n in range(10)})
    one.learn(receipts)
    other.learn(receipts[::-1])
    assert one.state() == other.state()
    assert list(one.experience.clients) == ["6", "7", "8", "9"]


def test_what_was_learned_goes_on_from_a_checkpoint():
    config = {"fraction_fit": 0.3}
    one, other = (leader(fl.PowerOfChoice(candidates=10), **config) for _ in range(2))
    for _ in range(5):
        phase = one.begin()
        receipts = answers(phase, {str(n): n / 3 for n in range(10)})
        decisions = [one.receipt(receipt) for receipt in receipts]
        assert decisions[-1].close
        one.close()
        one.learn(receipts)
        one.finish({})
    other.restore(one.state())
    assert other.begin() == one.begin()
    assert other.experience == one.experience


def test_a_selector_that_does_not_learn_keeps_nothing():
    uniform = leader(fl.Uniform())
    uniform.learn(answers(uniform.begin(), {"3": 1.0}))
    assert "selection" not in uniform.state()
    assert uniform.experience == Experience()


def test_a_failure_leaves_the_loss_that_was_known():
    told = Experience().after(1, [Receipt("7", 1, 0, "done", examples=2.0, loss=3.0)], 10)
    failed = told.after(2, [Receipt("7", 2, 0, "failed")], 10)
    assert failed.clients == {"7": Seen(3.0, 2.0, None, 2, 2)}
    assert Experience.of(failed.plain()) == failed


def test_those_asked_longest_ago_are_forgotten_first():
    experience = Experience()
    for number, clients in enumerate(["abc", "ad", "e"], 1):
        experience = experience.after(number, [Receipt(c, number, 0, "done", loss=1.0) for c in clients], 3)
    assert list(experience.clients) == ["a", "d", "e"]


def test_clients_that_tell_no_loss_are_a_sentence_once():
    class Silent(fl.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1

    history = fl.simulate(
        lambda context: Silent(),
        6,
        config=fl.ServerConfig(3, seed=1, fraction_fit=0.5, selector=fl.PowerOfChoice(candidates=6)),
        initial_parameters=[np.zeros(1)],
        engine="serial",
        progress=False,
    )
    told = [warning for warning in history.warnings if "learns nothing" in warning]
    assert told == ["PowerOfChoice learns nothing: no client reports 'loss' among the metrics of fit; return it there"]


def test_an_asynchronous_run_is_refused():
    config = ServerConfig(seed=1, selector=fl.PowerOfChoice(candidates=6))
    with pytest.raises(NotSupported, match="PowerOfChoice draws whole cohorts"):
        Streams(fl.Buffered(concurrency=2), config, Everyone(9))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"candidates": 0}, "candidates must be at least 1"),
        ({"candidates": True}, "candidates must be at least 1"),
        ({"candidates": 3, "remembers": 0}, "remembers must be from 1 to 1,000,000"),
        ({"candidates": 3, "metric": ""}, "metric must be the name"),
        ({"candidates": 3, "among": None}, "among must be a selector that does not learn"),
        ({"candidates": 3, "among": fl.PowerOfChoice(candidates=2)}, "among must be a selector that does not learn"),
    ],
)
def test_arguments_that_are_none_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fl.PowerOfChoice(**arguments)
