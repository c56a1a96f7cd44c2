"""Whether two models, losses or functions that were built apart compute the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from umbel.clients import same
from umbel.errors import NotSupported

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OWN = ("training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def kind(value: object) -> Hashable:
    """A key that is equal for what computes the same: models by their structure, functions by code and numbers.

    Raises:
        NotSupported: a module has hooks, or a function reads a model's parameters itself.
    """
    return same.kind(value, _look)


def _look(value: object, held: bool) -> Hashable:
    if held and _trains(value):
        # Stacked models are not that model.
        raise NotSupported("its loss reads a model's parameters itself")
    if isinstance(value, (torch.dtype, torch.device)):
        return (type(value), value)
    return _module(value) if isinstance(value, nn.Module) else None


def _trains(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, nn.Module) and any(param.requires_grad for param in value.parameters())


def _module(module: nn.Module) -> Hashable:
    """A module's structure: its classes and plain settings, not the values of its parameters and buffers.

    Raises:
        NotSupported: it has hooks, which may do anything.
    """
    found: list[Hashable] = []
    for name, part in cast("Iterable[tuple[str, nn.Module]]", module.named_modules(remove_duplicate=False)):
        own = vars(part)
        if any(own.get(hooks) for hooks in _HOOKS) or any(map(_is_hooked, part.parameters(recurse=False))):
            raise NotSupported(f"its {type(part).__name__} has hooks")
        if own.get("_non_persistent_buffers_set"):
            raise NotSupported(f"its {type(part).__name__} has buffers that are not in its state")
        # Tensors that are neither parameters nor buffers lie in no model; each is the same only as itself.
        settings = tuple((key, kind(value)) for key, value in own.items() if key not in _OWN and not _is_machinery(key))
        found.append((name, type(part), settings))
    return tuple(found)


def _is_hooked(param: Tensor) -> bool:
    return bool(param._backward_hooks or getattr(param, "_post_accumulate_grad_hooks", None))


def _is_machinery(key: str) -> bool:
    return key.startswith(("_forward_", "_backward_", "_state_dict_", "_load_state_dict_", "_is_full_"))


def fixed(module: object) -> Hashable:
    """The tensors inside a loss, which are part of what it computes."""
    if not isinstance(module, nn.Module):
        return ()
    return tuple(id(tensor) for tensor in [*module.parameters(), *module.buffers()])
