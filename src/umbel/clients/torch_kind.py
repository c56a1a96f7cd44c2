"""Whether two models, losses or functions that were built apart compute the same."""

from __future__ import annotations

import functools
import types
from collections.abc import Hashable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from umbel.errors import NotSupported

_PLAIN = (int, float, str, bytes, bool, type(None), torch.dtype, torch.device, type)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OWN = ("training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def kind(value: object) -> Hashable:
    """A key that is equal for what computes the same: built alike from the same code and the same numbers.

    What cannot be looked into is the same only as itself.
    """
    if isinstance(value, nn.Module):
        return _module(value)
    if isinstance(value, _PLAIN):
        return (type(value), value)
    if isinstance(value, (tuple, list)):
        return (type(cast("object", value)), *(kind(item) for item in cast("list[object]", value)))
    if isinstance(value, functools.partial):
        part = cast("functools.partial[Any]", value)
        return ("partial", kind(part.func), kind(part.args), kind(tuple(part.keywords.items())))
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, types.MethodType):
        return ("method", id(value.__self__), value.__func__)
    return id(value)


def _function(function: types.FunctionType) -> Hashable:
    cells = () if function.__closure__ is None else function.__closure__
    defaults = (function.__defaults__, tuple((function.__kwdefaults__ or {}).items()))
    # A number that it reads from its module may be another one by the next client.
    read = [(name, function.__globals__[name]) for name in function.__code__.co_names if name in function.__globals__]
    numbers = tuple((name, value) for name, value in read if isinstance(value, _PLAIN))
    inside = [_held(cell) for cell in cells]
    if any(map(_trains, [*inside, *(value for _, value in read)])):
        # Stacked models are not that model.
        raise NotSupported("its loss reads a model's parameters itself")
    held = tuple(kind(value) for value in inside)
    return (function.__code__, id(function.__globals__), numbers, held, kind(defaults))


def _trains(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, nn.Module) and any(param.requires_grad for param in value.parameters())


def _held(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is not filled yet
        return cell


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
