"""How much memory a step of a torch model takes, seen by taking one where arrays have shapes and no values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from umbel.clients.torch.data import on_device
from umbel.footprint import Footprint

META, HOST = torch.device("meta"), torch.device("cpu")
Forward = Callable[[nn.Module, Any, torch.device], Tensor]
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


def measured(
    copy_of: Callable[[torch.device], nn.Module], forward: Forward, optimizer: Optimizer, batch: Any
) -> Footprint:
    """The footprint of one step.

    It is taken on the `meta` device, which computes nothing. A model that looks at values (`.item()`, sizes that depend
    on data) takes it on the CPU.

    Args:
        copy_of: a copy of the model on a device.
        forward: `(model, batch, device) → loss`.
        optimizer: makes one for a model.
        batch: the first one.
    """
    try:
        return _step(copy_of(META), forward, optimizer, batch, META)
    except Exception:
        with torch.random.fork_rng(devices=[]):
            return _step(copy_of(HOST), forward, optimizer, batch, HOST)


def _step(model: nn.Module, forward: Forward, optimizer: Optimizer, batch: Any, device: torch.device) -> Footprint:
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
    chosen = optimizer(model)
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
