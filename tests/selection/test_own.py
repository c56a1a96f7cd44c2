"""A selector of somebody's own is taken at its word only about clients that exist."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError


class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {"loss": 1.0}


@dataclass(frozen=True)
class Own(fl.Selector):
    gives: Any = ()
    raises: str = ""
    learns: bool = False
    streams: ClassVar[bool] = True

    @property
    def hears(self):
        return "loss" if self.learns else None

    def draw(self, population, key, count, experience, excluded=()):
        if self.raises == "draw":
            raise ZeroDivisionError("division by zero")
        return population.sample(key, count) if self.gives == () else self.gives

    def learn(self, experience, round, receipts):
        if self.raises == "learn":
            raise ZeroDivisionError("division by zero")


def run(selector, **given):
    return fl.simulate(
        lambda context: Adds(),
        10,
        config=fl.ServerConfig(2, seed=1, fraction_evaluate=0.0, selector=selector),
        initial_parameters=[np.zeros(1)],
        engine="serial",
        progress=False,
        **given,
    )


@pytest.mark.parametrize(
    ("selector", "sentence"),
    [
        (Own(["zzz", "77"]), "selector=Own.draw gave the client 'zzz', which does not exist; draw from population"),
        (Own(["77"]), "selector=Own.draw gave the client '77', which does not exist"),
        (Own(["07"]), "selector=Own.draw gave the client '07', which does not exist"),
        (Own([3]), "selector=Own.draw gave the client 3; ids are texts, so give '3' if that was meant"),
        (Own(["1", "1"]), "selector=Own.draw gave the client '1' twice; give each client once"),
        (Own(None), "selector=Own.draw returned a NoneType; return a list of ids"),
        (Own("12"), "selector=Own.draw returned a str; return a list of ids"),
        (Own(raises="draw"), "selector=Own.draw raised ZeroDivisionError: division by zero; it must work"),
        (Own(raises="learn", learns=True), "selector=Own.learn raised ZeroDivisionError: division by zero; it must"),
        (Own(learns=True), "selector=Own.learn returned a NoneType; return an Experience"),
        (fl.PowerOfChoice(candidates=2, among=Own(["zzz"])), "selector=PowerOfChoice.draw gave the client 'zzz'"),
    ],
)
def test_clients_that_do_not_exist_are_refused_with_the_selector_and_the_id(selector, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run(selector)


def test_a_client_that_trains_already_cannot_be_drawn_again():
    coordinator = fl.Buffered(concurrency=2, buffer_size=2)
    slow = fl.SystemModel(seconds_per_unit=lambda client: 1.0 + int(client))
    with pytest.raises(ConfigError, match="gave the client '0', which is in excluded: it cannot be asked now"):
        run(Own(["0", "1"]), system=slow, coordinator=coordinator)


def test_one_that_draws_clients_that_are_away_sees_them_fail():
    trace = fl.Trace.of([(0, "0", "on"), (0, "1", "off"), (9, "1", "on"), (9, "1", "off")])
    history = run(Own(["0", "1"]), system=fl.SystemModel(availability=trace, seconds_per_unit=0.1))
    assert [failure.client for failure in history.rounds[0].failures] == ["1"]


def test_one_that_draws_clients_that_exist_is_left_alone():
    assert run(Own(["3", "5"])).rounds[-1].participants == 2
    assert run(Own(("3",))).rounds[-1].participants == 1
    assert run(fl.PowerOfChoice(candidates=4, among=Own())).rounds[-1].participants == 10
