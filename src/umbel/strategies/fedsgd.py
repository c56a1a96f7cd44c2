"""FedSGD: one full-batch gradient per client and round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, final

from umbel.arrays import Arrays
from umbel.errors import NotSupported
from umbel.local import assemble, delta_of, keep_private
from umbel.local_client import Capability, LocalClient, StepClient
from umbel.message import Ask, ClientState, Context, Update
from umbel.optimizers import ServerOptimizer, sgd
from umbel.strategies.averaging import Averaging


@final
@dataclass(frozen=True, kw_only=True)
class FedSGD(Averaging):
    """x ← x - lr·Σ nᵢ·∇Lᵢ(x) / Σ nᵢ: exactly one step of gradient descent on all clients' data.

    Args:
        server: the server's optimiser, whose lr is the learning rate; `sgd(0.1)` by default.
        Others: see `Averaging`. Needs a client whose inside is open (TorchClient, GradientClient). Arrays that stay at
            home are not trained: there is no local step.

    References:
        B. McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629 (as the limit case of FedAvg)
    """

    elementwise: ClassVar[bool] = True
    one_gradient: ClassVar[bool] = True

    server: ServerOptimizer = field(default_factory=lambda: sgd(0.1))
    needs: ClassVar[frozenset[Capability]] = frozenset({"fit", "inside"})

    def correction(self, ask: Ask, start: Arrays, ctx: Context) -> None:
        return None

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        if not isinstance(client, StepClient):
            raise NotSupported(
                f"FedSGD asks for gradients, which {type(client).__name__} does not give; use TorchClient or "
                "GradientClient"
            )
        start = assemble(ask.task, client, ctx)
        fitted = client.gradient(start, ctx)
        keep_private(fitted, ask.task, ctx)
        return self.answer(ask, fitted, delta_of(fitted, start, ctx), ctx), ctx.memory
