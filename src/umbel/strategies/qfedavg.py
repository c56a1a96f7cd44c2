"""q-FedAvg: clients with a higher loss weigh more, for a fairer spread of accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from umbel.arrays import Arrays, Vector
from umbel.errors import ClientError
from umbel.local import assemble, delta_of, keep_private, train
from umbel.local_client import Fitted, LocalClient, StepClient
from umbel.message import Ask, ClientState, Context, Group, Task, Update, require
from umbel.reducers import Reduction
from umbel.schema import ArraySpec, Schema
from umbel.strategies.averaging import Averaging, plain_update
from umbel.strategy import State

_CURVATURE = Schema([ArraySpec("curvature", "F64", ())])


@final
@dataclass(frozen=True, kw_only=True)
class QFedAvg(Averaging):
    """x ← x + Σ wᵢ·Fᵢ^q·Δᵢ / Σ wᵢ·(Fᵢ^q + q·Fᵢ^(q-1)·‖Δᵢ‖²/lr): each client's own loss Fᵢ at x sets its weight.

    With q = 0 this is FedAvg to the bit. A `TorchClient` or `GradientClient` computes Fᵢ on its training data; a client
    with a closed loop is asked for `evaluate`.

    Args:
        q: fairness, at least 0; larger values pull harder towards the worst clients.
        lr: the clients' learning rate, above 0 (1/L of the paper).
        Others: see `Averaging`.

    References:
        T. Li, M. Sanjabi, A. Beirami, V. Smith, "Fair Resource Allocation in Federated Learning", ICLR 2020,
        https://arxiv.org/abs/1905.10497
    """

    elementwise: ClassVar[bool] = True

    q: float = 0.2
    lr: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.q >= 0, f"q must be at least 0, got {self.q}; try 0.1 to 5")
        require(self.lr > 0, f"lr must be above 0, got {self.lr}; give the clients' learning rate")

    def correction(self, ask: Ask, start: Arrays, ctx: Context) -> None:
        return None

    def schema(self, task: Task, own: Any) -> dict[str, Schema]:
        return {"delta": task.arrays.schema.delta, "curvature": _CURVATURE}

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        start = assemble(ask.task, client, ctx)
        loss = _loss(client, start, ctx) if self.q else 1.0
        fitted = train(client, start, ctx)
        keep_private(fitted, ask.task, ctx)
        return self.fair(fitted, delta_of(fitted, start, ctx), loss), ctx.memory

    def fair(self, fitted: Fitted, delta: Arrays, loss: float) -> Update:
        """The update of a client whose loss before training was `loss`."""
        weight = self.weight(fitted)
        # A loss of 0 would give 0^(q-1); the client has nothing to gain then and weighs nothing.
        tilt = loss**self.q if loss > 0 else 0.0
        bend = self.q * loss ** (self.q - 1) * _trained_norm(delta) ** 2 / self.lr if self.q and loss > 0 else 0.0
        curvature = Arrays.of({"curvature": tilt + bend})
        groups = {"delta": Group(delta, weight * tilt), "curvature": Group(curvature, weight)}
        return plain_update(fitted, groups)

    def step(self, state: State, reduced: Reduction) -> State:
        total, curvature = reduced["delta"].total, float(reduced["curvature"].total["curvature"])
        mean = Vector(total.schema, total.values / curvature) if curvature else Vector.zeros(total.schema)
        return self.advance(state, mean)


def _trained_norm(delta: Arrays) -> float:
    return delta.select(delta.schema.trained).norm()


def _loss(client: LocalClient, start: Arrays, ctx: Context) -> float:
    loss = client.loss(start, ctx) if isinstance(client, StepClient) else client.evaluate_arrays(start, ctx).loss
    if not loss >= 0:
        raise ClientError(
            ctx.client, f"q-FedAvg needs a loss of at least 0, got {loss}; use a cross-entropy or squared loss"
        )
    return float(loss)
