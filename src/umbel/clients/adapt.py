"""Whatever a `client_fn` returns, as the `LocalClient` that strategies know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, final

from umbel.arrays import Arrays
from umbel.clients.client import Client, Delta, Gradients
from umbel.clients.coerce import from_user, to_user, triple
from umbel.clients.initial import call, initial_parameters
from umbel.dtypes import Array, narrow, widen
from umbel.errors import ConfigError, UpdateRefused
from umbel.local_client import Capability, Fitted, LocalClient
from umbel.message import Context, Evaluation, Group, Task, Update, checked_examples
from umbel.schema import Schema

SHAPE = """{name} can neither be trained nor evaluated; give it at least one of
    def fit(self, parameters, config): return new_parameters, num_examples, metrics
    def evaluate(self, parameters, config): return loss, num_examples, metrics"""


def as_client(user: Any) -> LocalClient:
    """The adapter for a user's object.

    Raises:
        ConfigError: it has neither `fit` nor `evaluate`.
    """
    if isinstance(user, LocalClient):
        return user
    if isinstance(user, type):
        raise ConfigError(f"client_fn returned the class {user.__name__}; return an object: {user.__name__}(...)")
    found: set[Capability] = {name for name in ("fit", "evaluate") if callable(getattr(user, name, None))}
    if not found:
        raise ConfigError(SHAPE.format(name=type(user).__name__))
    return _UserClient(user, found)


@final
class _UserClient(LocalClient):
    """A `NumPyClient`, a `Client` or any object with their methods."""

    def __init__(self, user: Any, found: set[Capability]) -> None:
        self.user = user
        self.rich = isinstance(user, Client)
        self.corrections = tuple(getattr(user, "corrections", ()))
        if callable(getattr(user, "get_properties", None)):
            found.add("properties")
        if callable(getattr(user, "query", None)):
            found.add("queries")
        if self.rich:
            found.add("partial")
        self.capabilities = frozenset(found)

    def _second(self, ctx: Context) -> Any:
        return ctx if self.rich else {"server_round": ctx.round, **ctx.config}

    def parameters(self, ctx: Context) -> Arrays:
        return initial_parameters(self.user, self._second(ctx))

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        given = start if self.rich else to_user(start)
        returned = call(self.user.fit, given, self._second(ctx))
        answer, examples, metrics = triple(ctx.client, "fit", returned, "new_parameters")
        examples = checked_examples(ctx.client, examples)
        if isinstance(answer, Delta):
            change = Arrays.of(from_user(ctx.client, answer.arrays, start.schema.delta))
            return Fitted(change.select(start.schema.delta), examples, metrics=metrics, is_delta=True)
        if isinstance(answer, Gradients):
            change = _descent(from_user(ctx.client, answer.arrays, start.schema.delta), answer.lr, start.schema.delta)
            return Fitted(change, examples, metrics=metrics, is_delta=True)
        return Fitted(from_user(ctx.client, answer, start.schema), examples, metrics=metrics)

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        given = model if self.rich else to_user(model)
        returned = call(self.user.evaluate, given, self._second(ctx))
        loss, examples, metrics = triple(ctx.client, "evaluate", returned, "loss")
        try:
            number = float(loss)
        except (TypeError, ValueError):
            raise UpdateRefused(
                ctx.client,
                f"evaluate returned the loss {loss!r}, which is no number; return (loss, num_examples, metrics)",
            ) from None
        return Evaluation(number, checked_examples(ctx.client, examples), metrics)

    def properties(self, ctx: Context) -> dict[str, Any]:
        if "properties" not in self.capabilities:
            return {}
        told = call(self.user.get_properties, self._second(ctx))
        if not isinstance(told, Mapping):
            kind = type(told).__name__
            raise UpdateRefused(ctx.client, f"get_properties returned a {kind}; it must return a dict of plain data")
        return dict(cast("Mapping[str, Any]", told))

    def answer(self, task: Task, ctx: Context) -> Update:
        if "queries" not in self.capabilities:
            return super().answer(task, ctx)
        arrays, weight, metrics = triple(ctx.client, "query", call(self.user.query, ctx), "arrays")
        return Update(
            {"answer": Group(Arrays.of(arrays), checked_examples(ctx.client, weight))}, float(weight), 0, metrics
        )


def _descent(gradients: Mapping[str, Array], lr: float, schema: Schema) -> Arrays:
    """-lr times the gradients, rounded once."""
    result = Arrays.empty(schema)
    for spec in schema.specs:
        result.views[spec.name][...] = narrow(-lr * widen(gradients[spec.name], spec.dtype), spec.dtype)
    return result.frozen()
