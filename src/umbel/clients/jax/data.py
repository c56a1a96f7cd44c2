"""What a `JaxClient` may be given as data, and how it becomes batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import jax
import numpy as np

from umbel.clients.jax.tree import tree_map
from umbel.clients.order import Numbers
from umbel.errors import ConfigError

Shuffle: TypeAlias = Callable[[int], Numbers]


def prepared(name: str, data: Any) -> Any:
    """`data` with its whole arrays in NumPy; batches as they are.

    Raises:
        ConfigError: the arrays differ in length, or `data` can be gone through only once.
    """
    if data is None:
        return None
    if is_columns(data):
        columns = tree_map(np.asarray, data)
        parts = jax.tree_util.tree_leaves(columns)
        if not parts or any(part.ndim == 0 or part.dtype == object for part in parts):
            raise ConfigError(f"{name} must be arrays with a row for each example, as in (x, y) or {{'x': x, 'y': y}}")
        lengths = [len(part) for part in parts]
        if len(set(lengths)) > 1:
            raise ConfigError(f"the arrays of {name} differ in length: {lengths}; they must be equal")
        return columns
    if hasattr(data, "__next__") or not isinstance(data, Iterable):
        raise ConfigError(
            f"{name} is a {type(data).__name__}; give a tuple or mapping of arrays, or batches that can be gone "
            "through again, such as a list of them"
        )
    return cast("Iterable[Any]", data)


def is_columns(data: Any) -> bool:
    """Whether data is whole arrays, to be cut into batches."""
    return isinstance(data, (tuple, Mapping)) or hasattr(data, "shape")


def one_pass(data: Any, size: int, shuffle: Shuffle | None) -> Iterator[Any]:
    """One pass over prepared `data`, in batches; `shuffle` gives a permutation of so many rows."""
    if not is_columns(data):
        yield from data
        return
    count = length(data)
    order = np.arange(count) if shuffle is None else shuffle(count)
    for start in range(0, count, size):
        yield rows(data, order[start : start + size])


def rows(columns: Any, chosen: Any) -> Any:
    """These rows of each array."""
    return tree_map(lambda column: column[chosen], columns)


def length(data: Any) -> int:
    """How many examples whole arrays, or a batch, have."""
    first = next((part for part in jax.tree_util.tree_leaves(data) if getattr(part, "ndim", 0)), None)
    return 1 if first is None else len(first)
