"""Finding a client's initial parameters when nobody named them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

from umbel.arrays import Arrays, named
from umbel.errors import ArraysError, ConfigError


def call(method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a user's method with as many of `arguments` as it takes."""
    function = getattr(method, "__func__", None)
    places = _places(method) if function is None else _places(function) - 1
    return method(*arguments[:places])


@lru_cache(maxsize=256)
def _places(function: Callable[..., Any]) -> int:
    """How many positional arguments a function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 99
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 99
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def initial_parameters(user: Any, argument: Any) -> Arrays:
    """`get_parameters()`, else `user.model`, else the one model-like name that `fit` uses.

    Raises:
        ConfigError: none of them is there, `fit` uses several, or what was found is no arrays.
    """
    name = type(user).__name__
    if callable(getattr(user, "get_parameters", None)):
        return _arrays(f"{name}.get_parameters", call(user.get_parameters, argument))
    found = {f"{name}.model": user.model} if _holds_arrays(getattr(user, "model", None)) else _models_of(user)
    if len(found) == 1:
        where, model = next(iter(found.items()))
        return _arrays(where, model)
    many = f" (fit uses several models: {', '.join(found)})" if found else ""
    raise ConfigError(
        f"there are no initial parameters{many}: pass initial_parameters=[...], "
        f"or give {name} a method get_parameters(self, config) that returns its arrays"
    )


def _arrays(where: str, value: Any) -> Arrays:
    try:
        return arrays_of_model(value)
    except ArraysError as error:
        raise ConfigError(f"the initial parameters from {where} are no arrays: {error}") from None


def _models_of(user: Any) -> dict[str, Any]:
    """The models among the global and closure names that `fit` uses, each object once."""
    models = {name: value for name, value in _names_of(getattr(user, "fit", None)).items() if _is_model(value)}
    return {name: value for name, value in models.items() if name == _first_name(models, value)}


def _first_name(models: Mapping[str, Any], value: Any) -> str:
    return next(name for name, other in models.items() if other is value)


def _holds_arrays(value: Any) -> bool:
    return _is_model(value) or (isinstance(value, (list, tuple, Mapping)) and len(cast("list[Any]", value)) > 0)


def _is_model(value: Any) -> bool:
    if isinstance(value, type) or inspect.ismodule(value):
        return False
    # Optimisers, schedulers and gradient scalers have a state_dict too, but what they do is step.
    if callable(getattr(value, "step", None)) and not callable(getattr(value, "parameters", None)):
        return False
    return callable(getattr(value, "get_weights", None)) or callable(getattr(value, "state_dict", None))


def _names_of(method: Any) -> dict[str, Any]:
    function = inspect.unwrap(getattr(method, "__func__", method))
    if not inspect.isfunction(function):
        return {}
    seen = inspect.getclosurevars(function)
    return {**seen.globals, **seen.nonlocals}


def arrays_of_model(model: Any) -> Arrays:
    """The arrays of a Keras-like (`get_weights`) or torch-like (`state_dict`) model, or of a plain list or mapping."""
    if callable(getattr(model, "get_weights", None)):
        return Arrays.of(model.get_weights())
    if callable(getattr(model, "state_dict", None)):
        state = cast("Mapping[str, Any]", model.state_dict())
        return Arrays.of([to_numpy(value) for value in state.values()])
    if isinstance(model, Arrays):
        return model
    return Arrays.of({name: to_numpy(value) for name, value in named(model).items()})


def to_numpy(value: Any) -> Any:
    """A torch tensor as an array (bfloat16, which NumPy lacks, as float32); everything else as it is."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
