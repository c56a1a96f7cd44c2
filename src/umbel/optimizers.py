"""Server optimisers: what to do with the mean change of a round.

The mean change Δ plays the part of the negative gradient. Arithmetic is float64; only `trained` arrays take part,
`averaged` ones (batch-norm statistics) simply move by their mean change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.dtypes import Float64
from umbel.message import require
from umbel.schema import ArraySpec, Schema


class ServerOptimizer(ABC):
    """A value with hyper-parameters; its slots (momenta) live in the strategy's state."""

    slots: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def change(self, delta: Float64, slots: Mapping[str, Float64]) -> Float64:
        """The change to apply to one array, given the mean change `delta`; `slots` are updated in place."""

    def start(self) -> float:
        """What every slot element starts with, for the slot named "v"; other slots start at 0."""
        return 0.0


def slot_schema(params: Schema) -> Schema:
    """The trained arrays of `params`, all in float64."""
    return Schema([ArraySpec(spec.name, "F64", spec.shape) for spec in params.trained.specs])


def initial_slots(optimizer: ServerOptimizer, params: Schema) -> dict[str, Arrays]:
    """The slots of `optimizer` before the first round."""
    result: dict[str, Arrays] = {}
    for name in optimizer.slots:
        slot = Arrays.zeros(slot_schema(params))
        if name == "v":
            for view in slot.views.values():
                view[...] = optimizer.start()
        result[name] = slot.frozen()
    return result


def optimize(optimizer: ServerOptimizer, mean: Vector, slots: Mapping[str, Arrays]) -> tuple[Vector, dict[str, Arrays]]:
    """The change to apply for the mean change `mean`, which is used up, and the new slots."""
    fresh = {name: slots[name].copy() for name in optimizer.slots}
    for spec in mean.schema.specs:
        if spec.role == "trained":
            views = {name: slot.views[spec.name] for name, slot in fresh.items()}
            change = optimizer.change(mean[spec.name], views)
            mean[spec.name][...] = change
    return mean, {name: slot.frozen() for name, slot in fresh.items()}


@final
@dataclass(frozen=True)
class Sgd(ServerOptimizer):
    """x ← x + lr·Δ. See `sgd`."""

    lr: float = 1.0

    def __post_init__(self) -> None:
        require(self.lr > 0, f"lr must be above 0, got {self.lr}; 1.0 takes the mean as it is")

    def change(self, delta: Float64, slots: Mapping[str, Float64]) -> Float64:
        return delta if self.lr == 1.0 else self.lr * delta


@final
@dataclass(frozen=True)
class Momentum(ServerOptimizer):
    """m ← β·m + Δ; x ← x + lr·m, or x + lr·(Δ + β·m) with Nesterov's form. See `momentum`."""

    lr: float = 1.0
    beta: float = 0.9
    nesterov: bool = False
    slots: ClassVar[tuple[str, ...]] = ("m",)

    def __post_init__(self) -> None:
        require(self.lr > 0, f"lr must be above 0, got {self.lr}; try 1.0")
        require(0 <= self.beta < 1, f"beta must be at least 0 and below 1, got {self.beta}; try 0.9")

    def change(self, delta: Float64, slots: Mapping[str, Float64]) -> Float64:
        m = slots["m"]
        m *= self.beta
        m += delta
        return self.lr * (delta + self.beta * m if self.nesterov else m)


@final
@dataclass(frozen=True)
class Adaptive(ServerOptimizer):
    """m ← β₁·m + (1-β₁)·Δ; v ← rule(v, Δ²); x ← x + lr·m/(√v + τ). See `adam`, `yogi`, `adagrad`."""

    rule: str
    lr: float
    beta1: float
    beta2: float
    tau: float
    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def __post_init__(self) -> None:
        require(self.lr > 0, f"lr must be above 0, got {self.lr}; try 0.01 to 0.1")
        require(self.tau > 0, f"tau must be above 0, got {self.tau}; try 1e-3")
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            require(0 <= beta < 1, f"{name} must be at least 0 and below 1, got {beta}; try 0.9 and 0.99")

    def start(self) -> float:
        return self.tau**2

    def change(self, delta: Float64, slots: Mapping[str, Float64]) -> Float64:
        m, v = slots["m"], slots["v"]
        m *= self.beta1
        m += (1 - self.beta1) * delta
        square = np.square(delta)
        if self.rule == "adagrad":
            v += square
        elif self.rule == "yogi":
            v -= (1 - self.beta2) * square * np.sign(v - square)
        else:
            v *= self.beta2
            v += (1 - self.beta2) * square
        return self.lr * m / (np.sqrt(v) + self.tau)


def sgd(lr: float = 1.0) -> ServerOptimizer:
    """x ← x + lr·Δ: with lr = 1 the plain mean."""
    return Sgd(lr)


def momentum(lr: float = 1.0, beta: float = 0.9, *, nesterov: bool = False) -> ServerOptimizer:
    """Heavy-ball momentum on the mean change.

    References:
        T.-M. H. Hsu, H. Qi, M. Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
        Classification", 2019, https://arxiv.org/abs/1909.06335
    """
    return Momentum(lr, beta, nesterov)


def adam(lr: float = 0.1, beta1: float = 0.9, beta2: float = 0.99, *, tau: float = 1e-3) -> ServerOptimizer:
    """Adam without bias correction, v starting at τ²; `tau` is the degree of adaptivity.

    References:
        S. Reddi et al., "Adaptive Federated Optimization", ICLR 2021, https://arxiv.org/abs/2003.00295
    """
    return Adaptive("adam", lr, beta1, beta2, tau)


def yogi(lr: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, *, tau: float = 1e-3) -> ServerOptimizer:
    """Yogi: v moves towards Δ² by a bounded amount. References: as `adam`."""
    return Adaptive("yogi", lr, beta1, beta2, tau)


def adagrad(lr: float = 0.1, *, tau: float = 1e-3) -> ServerOptimizer:
    """AdaGrad: v adds up Δ². References: as `adam`, with β₁ = 0."""
    return Adaptive("adagrad", lr, 0.0, 0.0, tau)
