"""FedNova: normalise updates by how far each client walked, so that unequal local work does not bias the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.dtypes import narrow
from umbel.errors import ClientError
from umbel.local_client import Fitted
from umbel.message import Ask, Context, Group, Task, Update
from umbel.reducers import Reduction
from umbel.schema import ArraySpec, Schema
from umbel.strategies.averaging import Averaging, plain_update
from umbel.strategy import State

_PATH = Schema([ArraySpec("path", "F64", ())])


@final
@dataclass(frozen=True, kw_only=True)
class FedNova(Averaging):
    """x ← x + (Σ pᵢ·aᵢ)·Σ pᵢ·(xᵢ - x)/aᵢ, where aᵢ is the length of client i's local path and pᵢ its share of examples.

    For an open client aᵢ is the sum of its step sizes with momentum counted in (‖a‖₁ of the paper times lr). A client
    with its own loop reports its number of steps as the fit metric "num_steps".

    Args: see `Averaging`.

    References:
        J. Wang, Q. Liu, H. Liang, G. Joshi, H. V. Poor, "Tackling the Objective Inconsistency Problem in Heterogeneous
        Federated Optimization", NeurIPS 2020, https://arxiv.org/abs/2007.07481
    """

    elementwise: ClassVar[bool] = True

    def correction(self, ask: Ask, start: Arrays, ctx: Context) -> None:
        return None

    def schema(self, task: Task, own: Any) -> dict[str, Schema]:
        return {"delta": task.arrays.schema.delta, "path": _PATH}

    def answer(self, ask: Ask, fitted: Fitted, delta: Arrays, ctx: Context) -> Update:
        path = fitted.path or float(fitted.metrics.get("num_steps", fitted.steps))
        if not path and fitted.examples:
            raise ClientError(
                ctx.client, 'FedNova needs its number of local steps; return it as the metric "num_steps" from fit'
            )
        scaled = delta.copy()
        for spec in scaled.schema.specs if path else ():
            if spec.role == "trained" and spec.dtype != "I64":
                scaled.views[spec.name][...] = narrow(delta.float64(spec.name) / path, spec.dtype)
        weight = self.weight(fitted)
        length = Arrays.of({"path": np.float64(path)})
        return plain_update(fitted, {"delta": Group(scaled.frozen(), weight), "path": Group(length, weight)})

    def step(self, state: State, reduced: Reduction) -> State:
        effective = float(reduced["path"].mean()["path"])
        mean = reduced["delta"].mean()
        result = Vector(mean.schema, mean.values)
        for spec in mean.schema.specs:
            if spec.role == "trained" and spec.dtype != "I64":
                result[spec.name][...] *= effective
        return self.advance(state, result)
