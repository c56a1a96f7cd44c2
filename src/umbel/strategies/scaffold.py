"""SCAFFOLD: control variates cancel the drift of heterogeneous clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

import numpy as np

from umbel.arrays import Arrays, Vector, moved
from umbel.errors import ClientError
from umbel.local import Correction
from umbel.local_client import Capability, Fitted
from umbel.message import Ask, Context, Group, Task, Update
from umbel.reducers import Reduction
from umbel.schema import Schema
from umbel.strategies.averaging import Averaging, plain_update
from umbel.strategy import State


@final
@dataclass(frozen=True, kw_only=True)
class Scaffold(Averaging):
    """Each local gradient becomes g - cᵢ + c; afterwards cᵢ ← cᵢ - c + (x - yᵢ)/Σlr and c ← c + |S|/N·mean(Δcᵢ).

    Σlr is the length of the local path: the sum of the step sizes, with momentum counted in, which is K·lr for plain
    SGD (option II of the paper). Control variates are kept in the client's state.

    Args: see `Averaging`. Needs a client whose inside is open, trained with SGD.

    References:
        S. P. Karimireddy, S. Kale, M. Mohri, S. Reddi, S. Stich, A. T. Suresh, "SCAFFOLD: Stochastic Controlled
        Averaging for Federated Learning", ICML 2020, https://arxiv.org/abs/1910.06378
    """

    elementwise: ClassVar[bool] = True
    counts_clients: ClassVar[bool] = True

    needs: ClassVar[frozenset[Capability]] = frozenset({"fit", "inside"})

    def init(self, params: Arrays) -> State:
        state = super().init(params)
        return State(state.params, {**state.slots, "control": Arrays.zeros(state.params.schema.duals).frozen()})

    def task(self, state: State, round: int) -> Task:
        return Task(round, state.params, {"control": state.slots["control"]}, shared=self.patterns)

    def schema(self, task: Task, own: Any) -> dict[str, Schema]:
        return {"delta": task.arrays.schema.delta, "control": task.arrays.schema.duals}

    def correction(self, ask: Ask, start: Arrays, ctx: Context) -> Correction:
        control, mine = ask.task.extra["control"], _own_control(ask.task, ctx)
        extra = Arrays.empty(control.schema)
        for name in control:
            np.subtract(control[name], mine[name], out=extra.views[name])
        return Correction("control", _add, extra.frozen())

    def answer(self, ask: Ask, fitted: Fitted, delta: Arrays, ctx: Context) -> Update:
        control, mine = ask.task.extra["control"], _own_control(ask.task, ctx)
        if not fitted.path and fitted.steps:
            raise ClientError(ctx.client, "SCAFFOLD needs the length of the local path, which this client hides")
        change = Arrays.zeros(control.schema)
        fresh = mine.copy()
        for name in control if fitted.steps else ():
            gradient = delta.float64(name) / -fitted.path
            np.subtract(gradient, control[name], out=change.views[name], casting="same_kind")
            np.add(mine[name], change[name], out=fresh.views[name])
        ctx.memory.strategy["control"] = fresh.frozen()
        weight = self.weight(fitted)
        return plain_update(fitted, {"delta": Group(delta, weight), "control": Group(change.frozen(), weight)})

    def step(self, state: State, reduced: Reduction) -> State:
        share = reduced["control"].count / max(reduced.population, reduced["control"].count, 1)
        change: Vector = reduced["control"].mean().scaled(share)
        moved_on = self.advance(state, reduced["delta"].mean())
        control = moved(state.slots["control"], change)
        return State(moved_on.params, {**moved_on.slots, "control": control}, moved_on.scalars)


def _add(grad: Any, param: Any, start: Any, extra: Any) -> Any:
    # Arrays that stay at home have no control variate.
    return grad if extra is None else grad + extra


def _own_control(task: Task, ctx: Context) -> Arrays:
    stored = ctx.memory.strategy.get("control")
    return Arrays.zeros(task.extra["control"].schema).frozen() if stored is None else cast("Arrays", stored)
