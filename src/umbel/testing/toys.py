"""Small problems whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.clients import GradientClient
from umbel.message import Context


@final
@dataclass(frozen=True)
class Quadratics:
    """Client i has the loss ½·Σ aᵢ·(w - bᵢ)², with its own curvatures aᵢ and centre bᵢ.

    Args:
        clients: how many; curvatures and centres are drawn from `seed`, far apart if `heterogeneous`.
        dim: size of w.
        lr, epochs, momentum: the local training's; `epochs` may be one number per client.
        examples: how many examples client i claims: a number for all, or one per client.

    Example:
        >>> import umbel as fl
        >>> toy = Quadratics(clients=3)
        >>> history = fl.simulate(toy.client, 3, config=fl.ServerConfig(num_rounds=2, seed=1), engine="serial")
        >>> history.parameters["w"].shape
        (4,)
    """

    clients: int = 4
    dim: int = 4
    lr: float = 0.1
    epochs: int | tuple[int, ...] = 5
    momentum: float = 0.0
    heterogeneous: bool = True
    seed: int = 7
    examples: int | tuple[int, ...] = 1
    dtype: str = "float64"

    def problem(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """(curvatures, centre) of client `index`, each of shape (dim,)."""
        rng = np.random.default_rng([self.seed, index])
        spread = 1.0 if self.heterogeneous else 0.0
        curvature = 1.0 + spread * rng.uniform(0.0, 4.0, self.dim)
        return curvature.astype(self.dtype), (spread * rng.normal(0.0, 3.0, self.dim)).astype(self.dtype)

    def weight(self, index: int) -> int:
        return self.examples if isinstance(self.examples, int) else self.examples[index]

    def optimum(self, *, uniform: bool = False) -> NDArray[Any]:
        """The w that minimises the clients' mean loss, weighted by examples unless `uniform`."""
        top, bottom = np.zeros(self.dim), np.zeros(self.dim)
        for index in range(self.clients):
            weight, (a, b) = 1.0 if uniform else float(self.weight(index)), self.problem(index)
            top += weight * a * b
            bottom += weight * a
        return top / bottom

    def client(self, context: Context) -> GradientClient:
        """The `client_fn`."""
        index = context.partition_id
        a, b = self.problem(index)

        def gradient(params: Any, *rows: Any) -> tuple[float, Any]:
            error = params["w"] - b
            return float((0.5 * a * error**2).sum()), {"w": a * error}

        epochs = self.epochs if isinstance(self.epochs, int) else self.epochs[index]
        rows = np.zeros(self.weight(index))
        return GradientClient(
            gradient,
            {"w": np.zeros(self.dim, self.dtype)},
            (rows,),
            lr=self.lr,
            momentum=self.momentum,
            epochs=epochs,
            shuffle=False,
        )


@final
@dataclass(frozen=True)
class WithHead:
    """A linear model whose `backbone.w` all clients share and whose `head.b` is each client's own offset.

    Client i's data follow y = x·w + offset(i), so only a private head can fit all clients.
    """

    clients: int = 4
    dim: int = 3
    seed: int = 3
    dtype: str = "float32"

    def offset(self, index: int) -> float:
        return 5.0 * (index - self.clients / 2)

    def client(self, context: Context) -> GradientClient:
        """The `client_fn`."""
        rng = np.random.default_rng([self.seed, context.partition_id])
        x = rng.standard_normal((40, self.dim)).astype(self.dtype)
        y = (x @ np.arange(1.0, self.dim + 1) + self.offset(context.partition_id)).astype(self.dtype)

        def gradient(params: Any, xs: Any, ys: Any) -> tuple[float, Any]:
            error = xs @ params["backbone.w"] + params["head.b"] - ys
            loss = 0.5 * float((error**2).mean())
            return loss, {"backbone.w": xs.T @ error / len(error), "head.b": error.mean()}

        start = {"backbone.w": np.zeros(self.dim, self.dtype), "head.b": np.zeros((), self.dtype)}
        return GradientClient(gradient, start, (x, y), lr=0.2, batch_size=10, epochs=2)
