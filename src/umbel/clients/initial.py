"""Finding a client's initial parameters when nobody named them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

from umbel.arrays import Arrays
from umbel.errors import ConfigError


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
        ConfigError: none of them is there, or `fit` uses several.
    """
    getter = getattr(user, "get_parameters", None)
    if getter is not None:
        return Arrays.of(call(getter, argument))
    model = getattr(user, "model", None)
    found = {} if model is None else {"self.model": model}
    if not found:
        found = {name: value for name, value in _names_of(getattr(user, "fit", None)).items() if _is_model(value)}
    if len(found) == 1:
        return arrays_of_model(next(iter(found.values())))
    many = f" (fit uses several models: {', '.join(found)})" if found else ""
    raise ConfigError(
        f"there are no initial parameters{many}: pass initial_parameters=[...], "
        f"or give {type(user).__name__} a method get_parameters(self, config) that returns its arrays"
    )


def _is_model(value: Any) -> bool:
    if isinstance(value, type) or inspect.ismodule(value):
        return False
    return callable(getattr(value, "get_weights", None)) or callable(getattr(value, "state_dict", None))


def _names_of(method: Any) -> dict[str, Any]:
    if method is None:
        return {}
    seen = inspect.getclosurevars(inspect.unwrap(getattr(method, "__func__", method)))
    return {**seen.globals, **seen.nonlocals}


def arrays_of_model(model: Any) -> Arrays:
    """The arrays of a Keras-like (`get_weights`) or torch-like (`state_dict`) model, or of a plain list or mapping."""
    if callable(getattr(model, "get_weights", None)):
        return Arrays.of(model.get_weights())
    if callable(getattr(model, "state_dict", None)):
        state = cast("Mapping[str, Any]", model.state_dict())
        return Arrays.of([_to_numpy(value) for value in state.values()])
    return Arrays.of(model)


def _to_numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value
