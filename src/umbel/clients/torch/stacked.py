"""Local optimisers as functions on stacked tensors: the first axis is the client."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor

from umbel.errors import NotSupported

Chosen: TypeAlias = "slice | Tensor"
_OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


@final
@dataclass(frozen=True)
class Rates:
    """The numbers of a local optimiser. `betas` is () for SGD."""

    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    betas: tuple[float, ...] = ()
    eps: float = 0.0
    decoupled: bool = False


def rates_of(optimizer: torch.optim.Optimizer, trainable: int) -> Rates:
    """What an optimiser does, if blocks can do the same.

    Args:
        trainable: how many parameters the model has to train.

    Raises:
        NotSupported: it is another one than SGD, Adam and AdamW, or has groups or switches that blocks do not know.
    """
    kind, groups = type(optimizer), optimizer.param_groups
    if kind not in _OPTIMIZERS:
        raise NotSupported(f"its optimizer is {kind.__name__}; blocks know SGD, Adam and AdamW")
    if len(groups) != 1 or len(groups[0]["params"]) != trainable:
        raise NotSupported("its optimizer has several groups of parameters, or not all of them")
    group = groups[0]
    odd = next((name for name in ("maximize", "differentiable", "amsgrad") if group.get(name)), None)
    if odd is not None:
        raise NotSupported(f"its optimizer is set to {odd}")
    if not isinstance(group["lr"], (int, float)):
        raise NotSupported("the learning rate of its optimizer is not a plain number")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:  # pyright: ignore[reportPrivateUsage]
        raise NotSupported("its optimizer has hooks")
    if kind is torch.optim.SGD:
        numbers = {name: group[name] for name in ("lr", "momentum", "dampening", "nesterov", "weight_decay")}
        return Rates(**numbers)
    decoupled = kind is torch.optim.AdamW or bool(group.get("decoupled_weight_decay"))
    return Rates(
        float(group["lr"]),
        weight_decay=group["weight_decay"],
        betas=tuple(group["betas"]),
        eps=group["eps"],
        decoupled=decoupled,
    )


class Stacked(ABC):
    """An optimiser of many clients at once."""

    @abstractmethod
    def step(self, number: int, params: dict[str, Tensor], gradients: Mapping[str, Tensor], chosen: Chosen) -> None:
        """Move `params`, the stacked parameters of `chosen` clients, in place; it is their step `number`, from 0."""


def path_lengths(rates: Rates, steps: int) -> list[float]:
    """The length of the local path after 0, 1, … `steps` steps: the sum of the step sizes, momentum included."""
    lengths, reach = [0.0], 0.0
    for number in range(steps):
        reach = rates.momentum * reach + (1.0 - rates.dampening if number else 1.0)
        whole = 1.0 + rates.momentum * reach if rates.nesterov else reach
        lengths.append(lengths[-1] + rates.lr * (whole if rates.momentum else 1.0))
    return lengths


def stacked_optimizer(rates: Rates, params: Mapping[str, Tensor]) -> Stacked:
    """The optimiser with these numbers, for the clients whose stacked parameters are `params`."""
    return _Adam(rates, params) if rates.betas else _Sgd(rates, params)


@final
class _Sgd(Stacked):
    def __init__(self, rates: Rates, params: Mapping[str, Tensor]) -> None:
        self.rates = rates
        names = params if rates.momentum else ()
        self.velocity = {name: torch.zeros_like(params[name]) for name in names}

    def step(self, number: int, params: dict[str, Tensor], gradients: Mapping[str, Tensor], chosen: Chosen) -> None:
        rates = self.rates
        for name, param in params.items():
            grad = gradients[name]
            if rates.weight_decay:
                grad = grad.add(param, alpha=rates.weight_decay)
            if rates.momentum:
                grad = self._with_momentum(name, grad, chosen, first=number == 0)
            param.add_(grad, alpha=-rates.lr)

    def _with_momentum(self, name: str, grad: Tensor, chosen: Chosen, *, first: bool) -> Tensor:
        rates = self.rates
        velocity = self.velocity[name][chosen]
        # torch's SGD begins with the gradient itself, whatever the dampening.
        velocity.mul_(rates.momentum).add_(grad, alpha=1.0 if first else 1.0 - rates.dampening)
        if isinstance(chosen, Tensor):
            self.velocity[name][chosen] = velocity
        return grad.add(velocity, alpha=rates.momentum) if rates.nesterov else velocity


@final
class _Adam(Stacked):
    def __init__(self, rates: Rates, params: Mapping[str, Tensor]) -> None:
        self.rates = rates
        self.mean = {name: torch.zeros_like(param) for name, param in params.items()}
        self.square = {name: torch.zeros_like(param) for name, param in params.items()}

    def step(self, number: int, params: dict[str, Tensor], gradients: Mapping[str, Tensor], chosen: Chosen) -> None:
        rates = self.rates
        first, second = rates.betas
        rate = rates.lr / (1 - first ** (number + 1))
        shrink = math.sqrt(1 - second ** (number + 1))
        for name, param in params.items():
            grad = gradients[name]
            if rates.weight_decay and rates.decoupled:
                param.mul_(1 - rates.lr * rates.weight_decay)
            elif rates.weight_decay:
                grad = grad.add(param, alpha=rates.weight_decay)
            mean, square = self.mean[name][chosen], self.square[name][chosen]
            mean.lerp_(grad, 1 - first)
            square.mul_(second).addcmul_(grad, grad, value=1 - second)
            param.addcdiv_(mean, (square.sqrt() / shrink).add_(rates.eps), value=-rate)
            if isinstance(chosen, Tensor):
                self.mean[name][chosen], self.square[name][chosen] = mean, square
