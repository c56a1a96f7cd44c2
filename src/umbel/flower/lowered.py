"""Whatever a script calls a client, as an object that `umbel` knows."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from umbel.errors import UmbelError
from umbel.flower.common import (
    Code,
    Context,
    EvaluateIns,
    FitIns,
    GetParametersIns,
    GetPropertiesIns,
    Parameters,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from umbel.message import Context as OwnContext


class Client:
    """A client that is handed `FitIns` and gives `FitRes`; subclass it and write the methods you need."""

    def to_client(self) -> Client:
        return self


def note(text: str) -> None:
    """Say something about the way in which a script is understood."""
    sys.stderr.write(f"umbel.flower: {text}\n")


def ignored(given: Mapping[str, Any]) -> None:
    """Say which arguments make no difference here."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        note(f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no meaning here and no effect")


def lowered(client: Any) -> Any:
    """`client`, or for one that speaks in messages an object that speaks in arrays."""
    if not isinstance(client, Client):
        return client
    talk: Any = client

    def get_properties(config: Any) -> Any:
        return _ok(talk.get_properties(GetPropertiesIns(config))).properties

    def get_parameters(config: Any) -> Any:
        return parameters_to_ndarrays(_ok(talk.get_parameters(GetParametersIns(config))).parameters)

    def fit(parameters: Any, config: Any) -> tuple[Any, int, Any]:
        result = _ok(talk.fit(FitIns(_parameters(parameters), config)))
        return parameters_to_ndarrays(result.parameters), result.num_examples, result.metrics

    def evaluate(parameters: Any, config: Any) -> tuple[float, int, Any]:
        result = _ok(talk.evaluate(EvaluateIns(_parameters(parameters), config)))
        return float(result.loss), result.num_examples, result.metrics

    methods = {m.__name__: m for m in (get_properties, get_parameters, fit, evaluate) if hasattr(client, m.__name__)}
    return SimpleNamespace(**methods)


def _parameters(given: Any) -> Parameters:
    return ndarrays_to_parameters(list(given.values()) if hasattr(given, "values") else given)


def _ok(result: Any) -> Any:
    if result.status.code is not Code.OK:
        raise UmbelError(f"the client answered {result.status.code.name}: {result.status.message}")
    return result


def builder(client_fn: Callable[..., Any]) -> Callable[[OwnContext], Any]:
    """A script's `client_fn`, which takes their context or (as older ones) the client's id, for `umbel`."""
    first = next(iter(inspect.signature(client_fn).parameters.values()), None)
    by_id = first is not None and (first.name == "cid" or first.annotation in (str, "str"))

    def build(context: OwnContext) -> Any:
        if first is None:
            return lowered(client_fn())
        return lowered(client_fn(context.client if by_id else _theirs(context)))

    return build


def _theirs(own: OwnContext) -> Context:
    config = {"partition-id": own.partition_id, "num-partitions": own.num_partitions}
    return Context(0, own.partition_id, config, own.state, own.config)
