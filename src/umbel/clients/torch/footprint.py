"""How much memory a step of a torch model takes, seen by taking one where arrays have shapes and no values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from umbel.clients.torch.data import on_device
from umbel.clients.torch.optimizer import OptimizerFactory, copy_without_memory
from umbel.footprint import Footprint

META, HOST = torch.device("meta"), torch.device("cpu")
Forward = Callable[[nn.Module, Any, torch.device], Tensor]


def measured(
    model: nn.Module,
    forward: Forward,
    optimizer: OptimizerFactory | torch.optim.Optimizer,
    batches: Iterable[Any],
) -> Footprint | None:
    """The footprint of one step; None if there is no batch, or it fails.

    It is taken on the `meta` device, which computes nothing. A model that looks at values (`.item()`, sizes that depend
    on data) takes it on the CPU. Neither the model nor the optimiser is touched, nor torch's generator.

    Args:
        forward: `(model, batch, device) → loss`.
        optimizer: a factory, or one that is bound to `model`.
        batches: of which the first is taken.
    """

    def step(device: torch.device) -> Footprint:
        other = copy.deepcopy(model).to(device)
        return _step(other, forward, lambda: _like(optimizer, model, other), batch, device)

    with torch.random.fork_rng(devices=[]):
        batch = next(iter(batches), None)
        if batch is None:
            return None
        for device in (META, HOST):
            try:
                return step(device)
            except Exception:  # a model or loss that cannot be computed there; if it cannot at all, its turns will tell
                continue
        return None


def _like(
    optimizer: OptimizerFactory | torch.optim.Optimizer, model: nn.Module, other: nn.Module
) -> torch.optim.Optimizer:
    """The optimiser as it would be for another model of the same shape."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer([param for param in other.parameters() if param.requires_grad])
    fresh = copy_without_memory(optimizer)
    theirs = {id(mine): their for mine, their in zip(model.parameters(), other.parameters(), strict=True)}
    for group in fresh.param_groups:
        group["params"] = [theirs[id(param)] for param in group["params"] if id(param) in theirs]
    return fresh


def _step(
    model: nn.Module, forward: Forward, optimizer: Callable[[], torch.optim.Optimizer], batch: Any, device: torch.device
) -> Footprint:
    model.train()
    placed = on_device(batch, device)
    own = [*model.parameters(), *model.buffers()]
    known = {_storage(tensor) for tensor in [*own, *_tensors(placed)]}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        # Held on to, so that no later one takes its place under the same number.
        if _storage(tensor) not in known:
            kept.setdefault(_storage(tensor), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = forward(model, placed, device)
    activations = sum(_bytes(tensor) for tensor in kept.values())
    loss.backward()
    gradients = [param.grad for param in model.parameters() if param.grad is not None]
    chosen = optimizer()
    chosen.step()
    memory = [value for state in chosen.state.values() for value in cast("Mapping[str, Any]", state).values()]
    return Footprint(
        model=sum(map(_size, own)),
        gradients=sum(map(_size, gradients)),
        optimizer=sum(_size(value) for value in memory if isinstance(value, Tensor)),
        activations=activations,
        batch=sum(map(_size, _tensors(placed))),
    )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return [found for part in cast("Mapping[Any, Any]", batch).values() for found in _tensors(part)]
    if isinstance(batch, (tuple, list)):
        return [found for part in cast("list[Any]", batch) for found in _tensors(part)]
    return []
