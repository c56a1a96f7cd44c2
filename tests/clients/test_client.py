"""`Client`: the context, read-only arrays, queries and partial work."""

import math

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.clients import as_client
from umbel.errors import ClientError, UpdateRefused
from umbel.message import Context, Task

START = Arrays.of({"w": np.zeros(2), "b": np.ones(())})


def context(**more):
    return Context("7", 7, 9, **more)


class Rich(fl.Client):
    def fit(self, parameters, context):
        return {"w": parameters["w"] + context.partition_id, "b": parameters["b"]}, 4, {"left": context.time_left_s()}

    def evaluate(self, parameters, context):
        return float(context.round), 2, {}

    def get_properties(self, context):
        return {"client": context.client}

    def query(self, context):
        return [np.array([context.config["query"] == "count"])], 3


def test_every_method_is_handed_the_context():
    client = as_client(Rich())
    assert client.capabilities == {"fit", "evaluate", "properties", "queries", "partial"}
    fitted = client.fit_arrays(START, context())
    assert fitted.arrays["w"].tolist() == [7.0, 7.0]
    assert (fitted.examples, fitted.metrics["left"]) == (4.0, math.inf)
    assert client.evaluate_arrays(START, context(round=3)).loss == 3.0
    assert client.properties(context()) == {"client": "7"}


def test_the_arrays_are_a_read_only_mapping():
    class Greedy(fl.Client):
        def fit(self, parameters, context):
            assert isinstance(parameters, Arrays)
            parameters["w"][:] = 1

    with pytest.raises(ValueError, match="read-only"):
        as_client(Greedy()).fit_arrays(START, context())


def test_a_query_is_answered_with_arrays_and_a_weight():
    ask = context(config={"query": "count"})
    update = as_client(Rich()).answer(Task(1, START), ask)
    assert (update.groups["answer"].arrays["0"].tolist(), update.groups["answer"].weight) == ([True], 3.0)

    class Deaf(fl.Client):
        def fit(self, parameters, context):
            return parameters, 1, {}

    with pytest.raises(ClientError, match=r"client 7: answers no queries; give its class a method query\(context\)"):
        as_client(Deaf()).answer(Task(1, START), ask)


def test_partial_work_is_what_there_is_when_time_is_up():
    class Steps(fl.Client):
        def fit(self, parameters, context):
            w, used = parameters["w"], 0
            while used < 100 and not context.should_stop():
                w, used = w + 1.0, used + 1
            context.report(used / 100)
            return {**parameters, "w": w}, used, {}

    reports, seconds = [], iter(range(1000))
    ctx = context(clock=lambda: float(next(seconds)), ends_at_s=5.0, on_report=reports.append)
    fitted = as_client(Steps()).fit_arrays(START, ctx)
    assert (fitted.examples, fitted.arrays["w"].tolist(), reports) == (5.0, [5.0, 5.0], [0.05])
    assert as_client(Steps()).fit_arrays(START, context()).examples == 100


def test_other_answers_are_a_delta_or_gradients():
    class Sends(fl.Client):
        def __init__(self, answer):
            self.answer = answer

        def fit(self, parameters, context):
            return self.answer, 1, {}

    for answer in (fl.Delta({"w": [1.0, 2.0], "b": -1.0}), fl.Gradients({"w": [-2.0, -4.0], "b": 2.0}, lr=0.5)):
        fitted = as_client(Sends(answer)).fit_arrays(START, context())
        assert fitted.is_delta
        assert (fitted.arrays["w"].tolist(), float(fitted.arrays["b"])) == ([1.0, 2.0], -1.0)
        assert fitted.arrays.schema == START.schema.delta
    with pytest.raises(UpdateRefused, match="lacks the array 'b'"):
        as_client(Sends(fl.Delta({"w": [1.0, 2.0]}))).fit_arrays(START, context())


def test_the_known_spelling_and_to_client_are_the_same_class():
    assert fl.client.Client is fl.Client
    rich = Rich()
    assert rich.to_client() is rich
    assert as_client(as_client(rich)).user is rich


def test_randomness_is_the_contexts_own():
    class Draws(fl.Client):
        def fit(self, parameters, context):
            return {"w": context.rng.normal(size=2), "b": np.random.normal()}, 1, {}

    def run(seed, engine):
        config = fl.ServerConfig(num_rounds=2, seed=seed)
        return fl.simulate(
            lambda ctx: Draws(), 3, config=config, initial_parameters=START, engine=engine, workers=2, progress=False
        ).parameters

    assert run(1, "serial") == run(1, "pool") != run(2, "serial")
