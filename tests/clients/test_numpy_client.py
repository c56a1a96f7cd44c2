"""`NumPyClient` and plain objects: what `fit` is given, and every form its answer may have."""

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.clients import as_client
from umbel.errors import ConfigError, NotSupported, TooFewClients, UpdateRefused
from umbel.message import Context
from umbel.testing import check_client

LIST = Arrays.of([np.zeros(2, np.float32), np.zeros((), np.float64)])
MAPPING = Arrays.of({"w": np.zeros(2, np.float32), "b": np.zeros((), np.float64)})


def context(**more):
    return Context("7", 7, 9, **more)


def fitted(user, start=LIST, **more):
    return as_client(user).fit_arrays(start, context(**more))


def answering(answer):
    class Answers(fl.NumPyClient):
        def fit(self, parameters, config):
            return answer(parameters) if callable(answer) else answer

    return Answers()


def simulate(client_fn, clients=2, **more):
    given = {"initial_parameters": [np.zeros(2)], "engine": "serial", "progress": False, **more}
    return fl.simulate(client_fn, clients, **given)


def test_fit_gets_a_list_where_the_model_is_a_list_and_a_dict_where_it_is_a_mapping():
    seen = []

    def look(parameters):
        seen.append(parameters)
        return parameters, 1

    fitted(answering(look), LIST)
    fitted(answering(look), MAPPING)
    assert type(seen[0]) is list
    assert type(seen[1]) is dict
    assert [a.dtype for a in seen[0]] == [np.float32, np.float64]
    assert list(seen[1]) == ["w", "b"]


@pytest.mark.parametrize("start", [LIST, MAPPING], ids=["list", "mapping"])
def test_fit_and_evaluate_get_private_writable_arrays(start):
    class Greedy(fl.NumPyClient):
        def fit(self, parameters, config):
            for value in parameters.values() if isinstance(parameters, dict) else parameters:
                value += 5
            return parameters, 1, {}

        def evaluate(self, parameters, config):
            self.fit(parameters, config)
            return 0.0, 1, {}

    before = start.digest
    assert [float(a.max()) for a in fitted(Greedy(), start).arrays.values()] == [5.0, 5.0]
    as_client(Greedy()).evaluate_arrays(start, context())
    assert start.digest == before
    check_client(lambda ctx: _with_parameters(Greedy(), start))


def _with_parameters(user, start):
    user.get_parameters = lambda config: start
    return user


def test_bfloat16_models_arrive_as_float32_and_go_back_rounded_once():
    from umbel.dtypes import bfloat16, narrow, widen

    start = Arrays.of({"w": narrow(np.array([1.0, 3.0]), "BF16")})
    assert start.schema.by_name["w"].dtype == "BF16"

    def add(parameters):
        assert parameters["w"].dtype == np.float32
        return {"w": parameters["w"] + np.float32(2**-12)}, 1

    new = fitted(answering(add), start).arrays["w"]
    assert new.dtype == bfloat16
    assert widen(new, "BF16").tolist() == [1.0, 3.0]  # 2**-12 is below half of bfloat16's last place
    change = fitted(answering(lambda p: (fl.Gradients({"w": np.float32([1, 2])}, lr=0.5), 1)), start).arrays
    assert change.float64("w").tolist() == [-0.5, -1.0]


def test_config_holds_the_server_round_the_apps_settings_and_the_rounds_own():
    seen = []

    class Looks(fl.NumPyClient):
        def fit(self, parameters, config):
            seen.append(("fit", dict(config)))
            config["mine"] = True  # a client's own dict
            return parameters, 1, {}

        def evaluate(self, parameters, config):
            seen.append(("evaluate", dict(config)))
            return 0.0, 1, {}

    simulate(
        lambda context: Looks(),
        1,
        config=fl.ServerConfig(num_rounds=2),
        settings={"lr": 0.5, "batch": 8},
        on_fit_config_fn=lambda server_round: {"lr": 0.1 * server_round},
        on_evaluate_config_fn=lambda server_round: {"batch": 64},
    )
    assert seen == [
        ("fit", {"server_round": 1, "lr": 0.1, "batch": 8}),
        ("evaluate", {"server_round": 1, "lr": 0.5, "batch": 64}),
        ("fit", {"server_round": 2, "lr": 0.2, "batch": 8}),
        ("evaluate", {"server_round": 2, "lr": 0.5, "batch": 64}),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        ([[1, 2], 3], 4, {"a": 1}),
        ([np.float64([1, 2]), np.float32(3)], 4, {"a": 1}),
        (([1.0, 2.0], 3.0), np.int64(4), {"a": 1}),
        ({"0": [1.0, 2.0], "1": 3.0}, 4.0, {"a": 1}),
        (Arrays.of([np.float32([1, 2]), np.float64(3)]), 4, {"a": 1}),
    ],
)
def test_new_parameters_may_be_any_arrays_of_the_models_shapes(answer):
    result = fitted(answering(answer))
    assert [np.asarray(a).tolist() for a in result.arrays.values()] == [[1.0, 2.0], 3.0]
    assert [a.dtype for a in result.arrays.values()] == [np.float32, np.float64]
    assert (result.examples, dict(result.metrics), result.is_delta) == (4.0, {"a": 1}, False)


@pytest.mark.parametrize("answer", [(LIST, 4), (LIST, 4, None), (LIST, 4, {})])
def test_metrics_may_be_left_out(answer):
    assert dict(fitted(answering(answer)).metrics) == {}
    assert fitted(answering(answer)).examples == 4


def test_a_mapping_may_come_back_in_any_order():
    result = fitted(answering(({"b": 3.0, "w": [1.0, 2.0]}, 1)), MAPPING)
    assert list(result.arrays) == ["w", "b"]
    assert float(result.arrays["b"]) == 3.0


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((LIST, True), "num_examples is True; allowed is a finite number of at least 0"),
        ((LIST, None), "num_examples is None"),
        ((LIST, float("inf")), "num_examples is inf"),
        ((LIST, 1, [("a", 1)]), "fit returned a tuple of 3; it must return .new_parameters, num_examples, metrics"),
        ((LIST,), "fit returned a tuple of 1"),
        (([[1.0], 2.0], 1), r"array '0' has shape \(1,\), the model has \(2,\)"),
        (([[1.0, 2.0], [3.0]], 1), r"array '1' has shape \(1,\), the model has \(\)"),
        (([np.array([1j, 2j]), 0.0], 1), "array '0': dtype complex128 cannot be part of a model"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_in_a_sentence(answer, sentence):
    with pytest.raises(UpdateRefused, match=sentence) as caught:
        fitted(answering(answer))
    assert caught.value.client == "7"


def test_names_that_differ_are_both_named():
    for given, sentence in (
        ({"w": [0, 0], "bias": 0}, "the client sent 'bias', the task has 'b' .did the model change"),
        ({"w": [0, 0]}, "what fit returned lacks the array 'b'; the model has w, b"),
        ({"w": [0, 0], "b": 0, "c": 0}, "what fit returned has the extra array 'c'; the model has w, b"),
    ):
        with pytest.raises(UpdateRefused, match=sentence):
            fitted(answering((given, 1)), MAPPING)


def test_integers_are_not_made_from_fractions_in_silence():
    start = Arrays.of([np.zeros(2, np.int64)])
    assert fitted(answering(([np.int32([1, 2])], 1)), start).arrays["0"].dtype == np.int64
    with pytest.raises(UpdateRefused, match="array '0' has dtype float64, the model has I64; convert it"):
        fitted(answering(([np.array([1.5, 2.0])], 1)), start)


@pytest.mark.parametrize("form", [list, dict], ids=["list", "mapping"])
def test_a_delta_and_gradients_are_the_same_change_as_new_parameters(form):
    start = [np.float64([1.0, 2.0]), np.float64(3.0)]
    change = [np.float64([0.5, -1.0]), np.float64(0.25)]
    names = ["w", "b"]

    def formed(values):
        return values if form is list else dict(zip(names, values, strict=True))

    answers = (
        lambda p: (formed([s + c for s, c in zip(start, change, strict=True)]), 2, {}),
        lambda p: (fl.Delta(formed(change)), 2, {}),
        lambda p: (fl.Gradients(formed([-4.0 * c for c in change]), lr=0.25), 2, {}),
        lambda p: (fl.Gradients(formed([-c for c in change])), 2),
    )
    runs = [
        simulate(lambda context, a=answer: answering(a), initial_parameters=formed(start)).parameters
        for answer in answers
    ]
    assert all(run == runs[0] for run in runs)
    assert np.asarray(next(iter(runs[0].values()))).tolist() == [1.5, 1.0]


def test_a_delta_leaves_frozen_arrays_out():
    start = Arrays.of({"w": np.zeros(2), "fixed": np.ones(3)}, roles={"fixed": "frozen"})
    result = fitted(answering((fl.Delta({"w": [1.0, 2.0]}), 1)), start)
    assert result.is_delta
    assert list(result.arrays) == ["w"]
    with pytest.raises(UpdateRefused, match="has the extra array 'fixed'; the model has w"):
        fitted(answering((fl.Delta({"w": [1.0, 2.0], "fixed": [0, 0, 0]}), 1)), start)


def test_properties_are_plain_data_and_may_be_left_out():
    class Tells(fl.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

        def get_properties(self, config):
            return {"cores": 4, "round": config["server_round"]}

    told = as_client(Tells())
    assert "properties" in told.capabilities
    assert told.properties(context(round=3)) == {"cores": 4, "round": 3}
    silent = as_client(answering((LIST, 1)))
    assert "properties" not in silent.capabilities
    assert silent.properties(context()) == {}
    Tells.get_properties = lambda self: None
    with pytest.raises(UpdateRefused, match="get_properties returned a NoneType; it must return a dict of plain data"):
        told.properties(context())


def test_a_client_without_fit_can_still_evaluate_but_not_be_trained():
    class Judges:
        def evaluate(self, parameters, config):
            return 0.5, 3, {"accuracy": 0.75}

    judge = as_client(Judges())
    assert judge.capabilities == {"evaluate"}
    seen = judge.evaluate_arrays(LIST, context())
    assert (seen.loss, seen.examples, seen.metrics["accuracy"]) == (0.5, 3.0, 0.75)
    with pytest.raises(NotSupported, match="FedAvg needs clients that can fit; Judges cannot"):
        simulate(lambda context: Judges())


def test_neither_fit_nor_evaluate_is_refused_with_the_shape_of_what_is_missing():
    class Empty:
        fit = 3

    with pytest.raises(ConfigError) as caught:
        as_client(Empty())
    assert str(caught.value).split("\n") == [
        "Empty can neither be trained nor evaluated; give it at least one of",
        "    def fit(self, parameters, config): return new_parameters, num_examples, metrics",
        "    def evaluate(self, parameters, config): return loss, num_examples, metrics",
    ]


def test_missing_evaluate_is_said_once_and_is_no_failure_even_if_only_some_lack_it():
    class Both(fl.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

        def evaluate(self, parameters, config):
            return 2.0, 1, {}

    history = simulate(
        lambda context: answering(lambda p: (p, 1)) if context.partition_id else Both(),
        3,
        config=fl.ServerConfig(num_rounds=3),
    )
    assert history.warnings == ("Answers has no evaluate; evaluation is skipped",)
    assert [(r.loss, r.failures) for r in history.rounds] == [(2.0, ())] * 3


def test_a_plain_object_and_to_client_and_short_signatures_are_clients_too():
    class Duck:
        def fit(self, parameters):
            return [p + 1.0 for p in parameters], 1

        def evaluate(self, parameters, config=None):
            return float(parameters[0].sum()), 1

    class Known(fl.client.NumPyClient):
        def fit(self, parameters, config):
            return [p + 1.0 for p in parameters], 1, {}

        def evaluate(self, parameters, config):
            return float(parameters[0].sum()), 1, {}

    known = Known()
    assert known.to_client() is known
    for client in (Duck(), known, known.to_client()):
        history = simulate(lambda context, c=client: c)
        assert history.loss == 2.0


def with_context(context):
    return numbered(context.client, context.partition_id)


def with_cid(cid: str):
    return numbered(cid)


def with_bare_cid(cid):
    return numbered(cid)


def with_text(name: str):
    return numbered(name)


def with_partition_id(partition_id: int):
    return numbered(None, partition_id)


def with_bare_partition_id(partition_id):
    return numbered(None, partition_id)


def with_numeric_cid(cid: int):
    return numbered(None, cid)


def numbered(client=None, partition=None):
    assert client is None or type(client) is str
    assert partition is None or type(partition) is int
    number = int(partition if client is None else client)
    return answering(([np.full(2, float(number))], 1))


class CallableFn:
    def __call__(self, context):
        return with_context(context)


@pytest.mark.parametrize(
    "client_fn",
    [
        with_context,
        with_cid,
        with_bare_cid,
        with_text,
        with_partition_id,
        with_bare_partition_id,
        with_numeric_cid,
        CallableFn(),
        lambda ctx, extra=None: with_context(ctx),
        lambda *arguments: with_context(*arguments),
    ],
)
def test_client_fn_may_take_the_context_a_cid_or_a_partition(client_fn):
    assert simulate(client_fn, 4).parameters["0"].tolist() == [1.5, 1.5]  # the mean of 0, 1, 2, 3


def test_client_fn_may_take_nothing_and_may_be_the_class():
    class Adds(fl.NumPyClient):
        def fit(self, parameters, config):
            return [parameters[0] + 1], 1, {}

    assert simulate(lambda: Adds()).parameters["0"].tolist() == [1.0, 1.0]
    assert simulate(Adds).parameters["0"].tolist() == [1.0, 1.0]


def test_a_client_that_applies_a_correction_finds_its_numbers_in_config():
    class Proximal(fl.NumPyClient):
        corrections = ("proximal",)

        def fit(self, parameters, config):
            return [p + config["mu"] for p in parameters], 1, {}

    assert simulate(lambda: Proximal(), strategy=fl.FedProx(mu=0.5)).parameters["0"].tolist() == [0.5, 0.5]


def test_what_evaluate_may_return():
    def loss_of(returned):
        class Judges(fl.NumPyClient):
            def evaluate(self, parameters, config):
                return returned

        seen = as_client(Judges()).evaluate_arrays(LIST, context())
        return seen.loss, seen.examples, dict(seen.metrics)

    assert loss_of((np.float32(0.5), np.int32(3), {"a": 1})) == (0.5, 3.0, {"a": 1})
    assert loss_of((1, 3)) == (1.0, 3.0, {})
    assert loss_of((1, 3, None)) == (1.0, 3.0, {})
    for returned, sentence in (
        (0.5, "evaluate returned a float; it must return .loss, num_examples, metrics"),
        (("low", 3), "evaluate returned the loss 'low', which is no number"),
        ((0.5, -1), "num_examples is -1"),
    ):
        with pytest.raises(UpdateRefused, match=sentence):
            loss_of(returned)


def test_state_lasts_from_turn_to_turn_through_the_client_fns_context():
    class Counts(fl.NumPyClient):
        def __init__(self, context):
            self.context = context

        def fit(self, parameters, config):
            self.context.state["turns"] = self.context.state.get("turns", 0) + 1
            return [np.full(2, float(self.context.state["turns"]))], 1, {}

        def evaluate(self, parameters, config):
            return float(self.context.state["turns"]), 1, {}

    for engine in ("serial", "pool"):
        history = simulate(Counts, config=fl.ServerConfig(num_rounds=3), engine=engine, workers=2)
        assert history.parameters["0"].tolist() == [3.0, 3.0]
        assert [record.loss for record in history.rounds] == [1.0, 2.0, 3.0]


def test_all_clients_failing_ends_the_run_with_their_sentence():
    with pytest.raises(TooFewClients, match="num_examples is 'many'; allowed is a finite number"):
        simulate(lambda: answering((LIST, "many")), initial_parameters=LIST)
