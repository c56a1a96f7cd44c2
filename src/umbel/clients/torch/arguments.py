"""What a `TorchClient` is given, beside data."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from umbel.clients.arguments import check_function, check_metrics, is_whole
from umbel.clients.torch.optimizer import check_bound
from umbel.errors import ConfigError
from umbel.message import require

SHAPES = {
    "loss": "(output, target) → mean loss",
    "step": "(model, batch) → loss",
    "scheduler": "optimizer → LR scheduler",
}


def check_arguments(*, model: object, optimizer: object, metrics: object, accumulate: object, amp: object) -> None:
    """Refuse what a turn could only fail with.

    Raises:
        ConfigError: names the argument.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model must be a torch.nn.Module, got {model!r}; try torch.nn.Linear(10, 2)")
    require(is_whole(accumulate, 1), f"accumulate must be a whole number of at least 1, got {accumulate!r}; try 1")
    check_metrics(metrics, "(output, target) → mean")
    is_float = isinstance(amp, torch.dtype) and amp.is_floating_point
    require(amp is None or is_float, f"amp must be a dtype such as torch.bfloat16 or None, got {amp!r}")
    if isinstance(optimizer, torch.optim.Optimizer):
        check_bound(optimizer, model)
    elif optimizer is not None and not callable(optimizer):
        raise ConfigError(
            f"optimizer must be a factory or an optimiser of this model, got {optimizer!r}; try "
            "optimizer=lambda params: torch.optim.SGD(params, lr=0.1)"
        )


def check_functions(**functions: object) -> None:
    """Refuse what is neither a function nor None."""
    for name, value in functions.items():
        check_function(name, value, SHAPES[name])


def device_name(device: Any) -> str | None:
    """The name of a device as torch writes it; None is none.

    Raises:
        ConfigError: it is no name. Whether there is such a device is not looked at.
    """
    if device is None:
        return None
    try:
        return str(torch.device(device))
    except (RuntimeError, TypeError, ValueError):
        raise ConfigError(
            f'device must be a name such as "cpu" or "cuda:1", or None, got {device!r}; try device="cpu"'
        ) from None
