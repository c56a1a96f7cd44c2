"""FedAdam, FedYogi, FedAdagrad: FedAvg with an adaptive server optimiser.

References:
    S. Reddi, Z. Charles, M. Zaheer, Z. Garrett, K. Rush, J. Konečný, S. Kumar, H. B. McMahan, "Adaptive Federated
    Optimization", ICLR 2021, https://arxiv.org/abs/2003.00295
"""

from __future__ import annotations

from typing import Any

from umbel.optimizers import adagrad, adam, yogi
from umbel.strategies.fedavg import FedAvg


def FedAdam(*, lr: float = 0.1, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3, **averaging: Any) -> FedAvg:
    """FedAvg with `adam` at the server: v ← β₂·v + (1-β₂)·Δ².

    Args:
        lr: the server's learning rate, above 0.
        beta1, beta2: decay of the first and second moment, from 0 to below 1.
        tau: degree of adaptivity, above 0.
        averaging: what `FedAvg` takes besides `server`.
    """
    return FedAvg(server=adam(lr, beta1, beta2, tau=tau), **averaging)


def FedYogi(
    *, lr: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3, **averaging: Any
) -> FedAvg:
    """FedAvg with `yogi` at the server: v ← v - (1-β₂)·Δ²·sign(v - Δ²). Args: as `FedAdam`."""
    return FedAvg(server=yogi(lr, beta1, beta2, tau=tau), **averaging)


def FedAdagrad(*, lr: float = 0.1, tau: float = 1e-3, **averaging: Any) -> FedAvg:
    """FedAvg with `adagrad` at the server: v ← v + Δ². Args: as `FedAdam`."""
    return FedAvg(server=adagrad(lr, tau=tau), **averaging)
