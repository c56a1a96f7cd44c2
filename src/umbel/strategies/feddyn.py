"""FedDyn: dynamic regularisation aligns each client's optimum with the global one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, final

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.local import Correction
from umbel.local_client import Capability, Fitted
from umbel.message import Ask, Context, Update, require
from umbel.optimizers import slot_schema
from umbel.reducers import Reduction
from umbel.strategies.averaging import Averaging
from umbel.strategy import State


@final
@dataclass(frozen=True, kw_only=True)
class FedDyn(Averaging):
    """Each local gradient becomes g - hᵢ + α·(y - x); afterwards hᵢ ← hᵢ - α·(yᵢ - x).

    The server keeps h ← h - α/N·Σ(yᵢ - x) over the clients that answered and sets x ← mean(yᵢ) - h/α.

    Args:
        alpha: strength of the regulariser, above 0.
        weighting: "uniform", as in the paper, or "examples".
        Others: see `Averaging`. Needs a client whose inside is open.

    References:
        D. A. E. Acar, Y. Zhao, R. M. Navarro, M. Mattina, P. N. Whatmough, V. Saligrama, "Federated Learning Based on
        Dynamic Regularization", ICLR 2021, https://arxiv.org/abs/2111.04263
    """

    elementwise: ClassVar[bool] = True
    counts_clients: ClassVar[bool] = True

    alpha: float = 0.1
    weighting: Literal["examples", "uniform"] = "uniform"
    needs: ClassVar[frozenset[Capability]] = frozenset({"fit", "inside"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha > 0, f"alpha must be above 0, got {self.alpha}; try 0.01 to 0.1")

    def init(self, params: Arrays) -> State:
        state = super().init(params)
        h = Arrays.zeros(slot_schema(state.params.schema)).frozen()
        return State(state.params, {**state.slots, "h": h})

    def correction(self, ask: Ask, start: Arrays, ctx: Context) -> Correction:
        alpha = self.alpha

        def regularise(grad: Any, param: Any, origin: Any, dual: Any) -> Any:
            # Arrays that stay at home have no dual, and nothing to stay near to.
            return grad if dual is None else grad - dual + alpha * (param - origin)

        return Correction("dynamic", regularise, _dual(ask, ctx))

    def answer(self, ask: Ask, fitted: Fitted, delta: Arrays, ctx: Context) -> Update:
        dual = _dual(ask, ctx).copy()
        for name, view in dual.views.items():
            np.subtract(view, self.alpha * delta.float64(name), out=view, casting="same_kind")
        ctx.memory.strategy["dual"] = dual.frozen()
        return super().answer(ask, fitted, delta, ctx)

    def step(self, state: State, reduced: Reduction) -> State:
        group = reduced["delta"]
        mean = group.mean()
        share = group.count / max(reduced.population, group.count, 1)
        change = Vector(mean.schema, mean.values.copy())
        h = state.slots["h"].copy()
        for name, view in h.views.items():
            view -= self.alpha * share * mean[name]
            change[name][...] -= view / self.alpha
        moved_on = self.advance(state, change)
        return State(moved_on.params, {**moved_on.slots, "h": h.frozen()}, moved_on.scalars)


def _dual(ask: Ask, ctx: Context) -> Arrays:
    stored = ctx.memory.strategy.get("dual")
    return Arrays.zeros(ask.task.arrays.schema.duals).frozen() if stored is None else cast("Arrays", stored)
