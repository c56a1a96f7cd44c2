"""Where a run's first model comes from when nobody names it."""

import functools

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.clients import as_client
from umbel.clients.initial import call
from umbel.errors import ConfigError
from umbel.message import Context

CTX = Context("3", 3, 5, round=2, config={"lr": 0.1})


def parameters(user):
    return as_client(user).parameters(CTX)


def values(user):
    return {name: np.asarray(array).tolist() for name, array in parameters(user).items()}


class KerasLike:
    def __init__(self, *numbers):
        self.numbers = numbers

    def get_weights(self):
        return [np.array([number]) for number in self.numbers]


class TorchLike:
    def __init__(self, **numbers):
        self.numbers = numbers

    def state_dict(self):
        return {name: np.array([number]) for name, number in self.numbers.items()}

    def parameters(self):
        return iter(self.numbers.values())


class OptimizerLike:
    def state_dict(self):
        return {"state": {}, "param_groups": [{"lr": 0.1}]}

    def step(self):
        raise AssertionError("an optimiser is not asked for anything")


class Trains(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


net = TorchLike(w=1.0, b=2.0)
also_net = net
optimizer = OptimizerLike()
other = KerasLike(9.0)


def test_get_parameters_may_take_the_config_or_not():
    class Plain(Trains):
        def get_parameters(self):
            return [np.array([1.0])]

    class WithConfig(Trains):
        def get_parameters(self, config):
            return [np.array([config["lr"], config["server_round"]])]

    class WithDefault(Trains):
        def get_parameters(self, config=None):
            return [np.array([config["lr"]])]

    class Static(Trains):
        @staticmethod
        def get_parameters(config):
            return {"w": np.array([config["lr"]])}

    assert values(Plain()) == {"0": [1.0]}
    assert values(WithConfig()) == {"0": [0.1, 2.0]}
    assert values(WithDefault()) == {"0": [0.1]}
    assert values(Static()) == {"w": [0.1]}


def test_get_parameters_of_a_client_is_handed_the_context():
    class Rich(fl.Client):
        def get_parameters(self, context):
            return Arrays.of({"w": np.array([context.partition_id])}, roles={"w": "averaged"})

        def fit(self, parameters, context):
            return parameters, 1, {}

    found = parameters(Rich())
    assert found["w"].tolist() == [3]
    assert found.schema.by_name["w"].role == "averaged"


def test_get_parameters_comes_before_the_model_and_the_model_before_names():
    class All(Trains):
        model = KerasLike(2.0)

        def get_parameters(self):
            return [np.array([1.0])]

        def fit(self, parameters, config):
            return net.state_dict(), 1, {}

    class ModelAndName(Trains):
        model = KerasLike(2.0)

        def fit(self, parameters, config):
            return net.state_dict(), 1, {}

    assert values(All()) == {"0": [1.0]}
    assert values(ModelAndName()) == {"0": [2.0]}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (KerasLike(1.0, 2.0), {"0": [1.0], "1": [2.0]}),
        (TorchLike(w=1.0, b=2.0), {"0": [1.0], "1": [2.0]}),
        ([np.array([1.0])], {"0": [1.0]}),
        ({"w": np.array([1.0])}, {"w": [1.0]}),
    ],
)
def test_the_model_attribute_may_have_several_forms(model, expected):
    user = Trains()
    user.model = model
    assert values(user) == expected


def test_the_one_global_that_fit_uses_is_the_model():
    class Global(Trains):
        def fit(self, parameters, config):
            return net.state_dict(), 1, {}

    assert values(Global()) == {"0": [1.0], "1": [2.0]}


def test_the_one_closure_name_that_fit_uses_is_the_model():
    model = KerasLike(5.0)

    class Closure(Trains):
        def fit(self, parameters, config):
            return model.get_weights(), 1, {}

    class Inherits(Closure):
        pass

    assert values(Closure()) == values(Inherits()) == {"0": [5.0]}


def test_a_wrapped_fit_is_looked_into():
    def logged(function):
        @functools.wraps(function)
        def inner(*arguments):
            return function(*arguments)

        return inner

    class Wrapped(Trains):
        @logged
        def fit(self, parameters, config):
            return net.state_dict(), 1, {}

    assert values(Wrapped()) == {"0": [1.0], "1": [2.0]}


def test_optimizers_modules_and_classes_are_no_models_and_one_object_is_one_model():
    class Script(Trains):
        def fit(self, parameters, config):
            optimizer.step()
            assert also_net is net
            assert TorchLike
            assert np
            return net.state_dict(), 1, {}

    assert values(Script()) == {"0": [1.0], "1": [2.0]}


def test_a_torch_script_with_a_global_model_and_optimizer_finds_the_model():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1).to(torch.bfloat16)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(sgd, 1)

    class Script(Trains):
        def fit(self, parameters, config):
            sgd.step()
            schedule.step()
            return list(model.state_dict().values()), 1, {}

    found = parameters(Script())
    assert {spec.name: (spec.dtype, spec.shape) for spec in found.schema} == {
        "0": ("F32", (1, 2)),  # NumPy has no bfloat16
        "1": ("F32", (1,)),
    }
    assert np.array_equal(found["0"], model.weight.detach().float().numpy())
    fitted = as_client(Script()).fit_arrays(found, CTX)
    assert np.array_equal(fitted.arrays["0"], found["0"])


BOTH = r"pass initial_parameters=\[...\], or give {} a method get_parameters\(self, config\) that returns its arrays"


def test_several_models_are_named_and_none_is_guessed():
    class Two(Trains):
        def fit(self, parameters, config):
            return [*net.state_dict().values(), *other.get_weights()], 1, {}

    with pytest.raises(ConfigError, match=r"\(fit uses several models: net, other\): " + BOTH.format("Two")):
        parameters(Two())


class Nothing(Trains):
    pass


class ModelThatIsNone(Trains):
    model = None


class ModelThatIsNoModel(Trains):
    model = object()


class OnlyEvaluates:
    def evaluate(self, parameters, config):
        return 0.0, 1, {}


class FitThatIsNoFunction:
    fit = functools.partial(print)


@pytest.mark.parametrize("make", [Nothing, ModelThatIsNone, ModelThatIsNoModel, OnlyEvaluates, FitThatIsNoFunction])
def test_where_nothing_is_found_both_mends_are_named(make):
    with pytest.raises(ConfigError, match="there are no initial parameters: " + BOTH.format(make.__name__)):
        parameters(make())


@pytest.mark.parametrize("returned", [None, 3.0, np.zeros(3), "weights"])
def test_get_parameters_that_returns_no_arrays_is_named(returned):
    class Wrong(Trains):
        def get_parameters(self, config):
            return returned

    with pytest.raises(ConfigError, match=r"the initial parameters from Wrong\.get_parameters are no arrays: expected"):
        parameters(Wrong())


def test_given_initial_parameters_need_no_client_to_have_any():
    history = fl.simulate(
        lambda context: Nothing(), 2, initial_parameters={"w": np.ones(2)}, engine="serial", progress=False
    )
    assert history.parameters["w"].tolist() == [1.0, 1.0]


def test_call_passes_as_many_arguments_as_a_method_takes():
    class Forms:
        def none(self):
            return ()

        def one(self, a):
            return (a,)

        def two(self, a, b=None):
            return (a, b)

        def any(self, *rest):
            return rest

        @classmethod
        def of_class(cls, a):
            return (a,)

        @staticmethod
        def of_nothing(a):
            return (a,)

    forms = Forms()
    assert [len(call(getattr(forms, name), 1, 2)) for name in ("none", "one", "two", "any")] == [0, 1, 2, 2]
    assert call(forms.of_class, 1, 2) == call(forms.of_nothing, 1, 2) == (1,)
    assert call(lambda *rest: rest, 1, 2) == (1, 2)
    assert call(max, 1, 2) == 2
