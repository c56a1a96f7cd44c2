"""A search for the picture whose gradient is the one that was seen, of a small convolutional network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from umbel.arrays import Vector
from umbel.clients.torch.client import TorchClient
from umbel.dtypes import Float64

SIDE, LABELS = 8, 10
STARTS, STEPS, FOUND = 3, 40, 1e-12
_LEAST_GAIN = 1e-3


def network() -> nn.Module:
    """Two convolutions and a linear layer, smooth and with large weights, for pictures of 8 × 8."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 3, padding=1, stride=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(12 * (SIDE // 2) ** 2, LABELS),
    ).double()
    for param in model.parameters():
        nn.init.uniform_(param, -0.5, 0.5)
    return model


def client_with(picture: Float64, label: int) -> TorchClient:
    """A client whose one example is this picture."""
    x = torch.from_numpy(picture.reshape(1, 1, SIDE, SIDE))
    return TorchClient(network(), nn.CrossEntropyLoss(), None, (x, torch.tensor([label])))


def inverted(downhill: Vector, label: int) -> Float64:
    """The picture whose gradient has the direction of -`downhill`: arg min ‖∇/‖∇‖ - g/‖g‖‖² by L-BFGS.

    Its length is left out: clipping changes that alone. The label is taken as known; of one example the last layer's
    gradient shows it.

    References:
        L. Zhu, Z. Liu, S. Han, "Deep Leakage from Gradients", NeurIPS 2019, https://arxiv.org/abs/1906.08935
        J. Geiping, H. Bauermeister, H. Dröge, M. Moeller, "Inverting Gradients - How easy is it to break privacy in
        federated learning?", NeurIPS 2020, https://arxiv.org/abs/2003.14053
    """
    model = network()
    parts = [torch.from_numpy(-downhill[name]) for name, _ in model.named_parameters()]
    target = _direction(parts)
    best, picture = math.inf, np.zeros((SIDE, SIDE))
    for start in range(STARTS):
        torch.manual_seed(start + 1)
        distance, found = _searched(model, target, label)
        if distance < best:
            best, picture = distance, found
        if best < FOUND:
            break
    return picture


def _searched(model: nn.Module, target: torch.Tensor, label: int) -> tuple[float, Float64]:
    """How near one search comes, and its picture."""
    guess = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64).requires_grad_()
    search: Any = torch.optim.LBFGS([guess], max_iter=20, history_size=100, line_search_fn="strong_wolfe")
    wanted, params = torch.tensor([label]), list(model.parameters())

    def distance() -> torch.Tensor:
        search.zero_grad()
        loss = nn.functional.cross_entropy(model(guess), wanted)
        gap = (_direction(torch.autograd.grad(loss, params, create_graph=True)) - target).square().sum()
        gap.backward()
        return gap

    before = math.inf
    for _ in range(STEPS):
        now = float(search.step(distance).detach())
        # Where nothing is left to gain there is no picture to be found.
        if not math.isfinite(now) or now < FOUND or (before - now) < _LEAST_GAIN * now:
            break
        before = now
    return float(distance().detach()), guess.detach().numpy()[0, 0].copy()


def _direction(parts: Any) -> torch.Tensor:
    flat: Any = torch.cat([part.reshape(-1) for part in parts])
    return flat / flat.norm().clamp_min(1e-30)
