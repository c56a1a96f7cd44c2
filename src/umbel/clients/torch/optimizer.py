"""The local optimiser of a `TorchClient`: made anew for each turn, bound to the model that it is to train."""

from __future__ import annotations

import copy
import sys
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from umbel.errors import ConfigError

_SKIPPED = "__dynamo_disable"
OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def plain_sgd(params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.01)


@contextmanager
def without_compiler() -> Generator[None]:
    """Within this, optimisers are built without loading torch's compiler, which takes seconds and a hundred megabytes.

    torch loads it only to have it skip `add_param_group`, which matters where a compiled function builds an optimiser.
    """
    build = getattr(torch.optim.Optimizer.add_param_group, "__wrapped__", None)
    if build is None or "torch._dynamo" in sys.modules or hasattr(build, _SKIPPED):
        yield
        return
    setattr(build, _SKIPPED, build)
    try:
        yield
    finally:
        delattr(build, _SKIPPED)


def check_bound(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Refuse an optimiser of another model's parameters, which would train nothing, in silence."""
    mine = {id(param) for param in model.parameters()}
    if not any(id(param) in mine for group in optimizer.param_groups for param in group["params"]):
        raise ConfigError(
            "the optimizer holds none of the model's parameters; bind it to this model, or give a factory: "
            "optimizer=lambda params: torch.optim.SGD(params, lr=0.1)"
        )


def copy_without_memory(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same optimiser on the same parameters with no state; the user's own keeps its state and learning rates."""
    fresh = object.__new__(type(optimizer))
    # A scheduler puts a `step` of its own into the optimiser that it was given.
    fresh.__dict__.update({name: value for name, value in vars(optimizer).items() if name != "step"})
    fresh.state = defaultdict(dict)
    fresh.param_groups = [
        {name: value if name == "params" else copy.deepcopy(value) for name, value in group.items()}
        for group in optimizer.param_groups
    ]
    return fresh


def plain_rate(optimizer: torch.optim.Optimizer) -> float | None:
    """The rate of an optimiser that only adds -lr times the gradient; None for every other."""
    if type(optimizer) is not torch.optim.SGD or len(optimizer.param_groups) != 1:
        return None
    group = optimizer.param_groups[0]
    if any(group.get(name) for name in ("momentum", "weight_decay", "maximize", "differentiable")):
        return None
    watched = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks  # pyright: ignore[reportPrivateUsage]
    return None if watched or not isinstance(group["lr"], float) else group["lr"]


def descend(params: Iterable[nn.Parameter], lr: float) -> None:
    """What `torch.optim.SGD` does for plain descent, with the same bits and a third of its bookkeeping."""
    moving: list[Tensor] = [param for param in params if param.grad is not None]
    gradients = [cast("Tensor", param.grad) for param in moving]
    if moving:
        with torch.no_grad():
            cast("Any", torch)._foreach_add_(moving, gradients, alpha=-lr)


def scaler(device: torch.device) -> Any:
    """What scales the loss of float16 up, so that small gradients are not lost."""
    return torch.amp.GradScaler(device.type)  # pyright: ignore[reportPrivateImportUsage]
