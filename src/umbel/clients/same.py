"""Whether two functions or objects that were built apart compute the same, so that one may stand for the other."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias, cast, final

import numpy as np

Look: TypeAlias = Callable[[object, bool], Hashable]
"""`(value, whether a function holds it) → its kind, or None`: how a framework's own objects are told apart."""
_PLAIN: tuple[type[Any], ...] = (int, float, complex, str, bytes, bool, type(None), type, np.dtype)


@final
class Itself:
    """What cannot be looked into: the same only as itself. It is held, so that no other takes its place in memory."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


@final
class Alike:
    """A value that equals all others that compute the same."""

    def __init__(self, value: Any) -> None:
        self.value, self.kind = value, kind(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike) and other.kind == self.kind

    def __hash__(self) -> int:
        return hash(self.kind)


@final
@dataclasses.dataclass(frozen=True)
class _Within:
    """The functions around what is looked at, by id: a function may hold itself."""

    look: Look
    functions: tuple[int, ...] = ()


def kind(value: object, look: Look = lambda value, held: None) -> Hashable:
    """A key that is equal for what computes the same: built alike from the same code and the same numbers.

    Raises:
        NotSupported: `look` says that this cannot be told.
    """
    return _kind(value, _Within(look))


def _kind(value: object, within: _Within) -> Hashable:
    if isinstance(value, _PLAIN):
        # -0.0 equals 0.0, and 1 equals True, but they compute differently.
        return (type(value), repr(value) if isinstance(value, (float, complex)) else value)
    found = within.look(value, bool(within.functions))
    if found is not None:
        return found
    if isinstance(value, (tuple, list)):
        return (type(cast("object", value)), *(_kind(item, within) for item in cast("list[object]", value)))
    if isinstance(value, functools.partial):
        part = cast("functools.partial[Any]", value)
        inner = (part.func, part.args, tuple(part.keywords.items()))
        return ("partial", *(_kind(item, within) for item in inner))
    if isinstance(value, types.FunctionType):
        return _function(value, within)
    if isinstance(value, types.MethodType):
        return ("method", _kind(value.__self__, within), value.__func__)
    if _is_fixed(value):
        fields = dataclasses.fields(cast("Any", value))
        return (type(value), *((field.name, _kind(getattr(value, field.name, None), within)) for field in fields))
    return Itself(value)


def _is_fixed(value: object) -> bool:
    """Whether an object is what its fields say and does not change, as a Flax module is."""
    how = getattr(type(value), "__dataclass_params__", None)
    return how is not None and how.eq and (how.frozen or how.unsafe_hash)


def _function(function: types.FunctionType, within: _Within) -> Hashable:
    if id(function) in within.functions:
        return ("itself", within.functions.index(id(function)))
    inside = _Within(within.look, (*within.functions, id(function)))
    cells = tuple(_held(cell, inside) for cell in function.__closure__ or ())
    defaults = _kind((function.__defaults__, tuple((function.__kwdefaults__ or {}).items())), inside)
    # What it reads from its module may be something else by the next client.
    read = [(name, function.__globals__[name]) for name in _names(function.__code__) if name in function.__globals__]
    seen = tuple((name, _read(value, inside)) for name, value in read)
    return (function.__code__, Itself(function.__globals__), seen, cells, defaults)


def _names(code: types.CodeType) -> list[str]:
    """The names that code, and the functions within it, may read from their module."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part)]
    return [*code.co_names, *inner]


def _read(value: object, within: _Within) -> Hashable:
    if isinstance(value, _PLAIN):
        return _kind(value, within)
    within.look(value, True)
    return Itself(value)


def _held(cell: types.CellType, within: _Within) -> Hashable:
    try:
        value = cell.cell_contents
    except ValueError:  # it is not filled yet
        return Itself(cell)
    return _kind(value, within)
