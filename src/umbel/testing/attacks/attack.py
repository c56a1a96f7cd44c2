"""What every attack is: a change to what a bad client sends."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.dtypes import FLOATS, Float64
from umbel.message import is_number, require


class Attack(ABC):  # noqa: B024 - each attack has its own of two methods
    """A frozen value. `sent` is what one bad client makes of its own update; `crafted` is what bad clients that see
    everybody's updates send, all the same."""

    def __post_init__(self) -> None:
        """An attack that is none would make every reducer look robust."""
        for one in fields(self):  # pyright: ignore[reportArgumentType]
            value: Any = getattr(self, one.name)
            fine = one.default is None if value is None else is_number(value) and math.isfinite(value)
            require(fine, f"{one.name} must be a finite number, got {value!r}; try {one.default!r}")

    def sent(self, update: Float64, rng: np.random.Generator) -> Float64:
        """What is sent instead of the client's own `update`, a flat vector of its floats."""
        return update

    def crafted(self, honest: Float64, bad: int) -> Float64 | None:
        """The vector that all bad clients send, or None if they do not look at what others send.

        Args:
            honest: the honest clients' updates, one per row.
            bad: how many bad clients there are.
        """
        return None


def altered(arrays: Arrays, change: Callable[[Float64], Float64]) -> Arrays:
    """`arrays` with `change` applied to all of its floats, as one flat vector."""
    vector = Vector.of(arrays)
    parts = [slice(s.start, s.start + s.size) for s in arrays.schema.segments if s.dtype in FLOATS]
    new = change(np.concatenate([vector.values[part] for part in parts]) if parts else np.empty(0))
    start = 0
    for part in parts:
        size = part.stop - part.start
        vector.values[part] = new[start : start + size]
        start += size
    return vector.arrays()
