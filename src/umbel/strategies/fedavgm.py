"""FedAvgM: FedAvg with momentum at the server."""

from __future__ import annotations

from typing import Any

from umbel.optimizers import momentum
from umbel.strategies.fedavg import FedAvg


def FedAvgM(*, lr: float = 1.0, beta: float = 0.9, nesterov: bool = False, **averaging: Any) -> FedAvg:
    """FedAvg whose server keeps a momentum: m ← β·m + Δ, x ← x + lr·m. With beta = 0, lr = 1 this is FedAvg.

    Args:
        lr: the server's learning rate, above 0.
        beta: the momentum, from 0 to below 1.
        averaging: what `FedAvg` takes besides `server`.

    References:
        T.-M. H. Hsu, H. Qi, M. Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
        Classification", 2019, https://arxiv.org/abs/1909.06335
    """
    return FedAvg(server=momentum(lr, beta, nesterov=nesterov), **averaging)
