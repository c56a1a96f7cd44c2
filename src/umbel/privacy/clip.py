"""Clipping: no update longer than a bound, all of its numbers on a grid that public numbers alone decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.dtypes import Float64
from umbel.privacy.layers import Layers

GRID_BITS, WEIGHT_BITS = 20, 10
EXAMPLE_BITS = 14
"""Of gradients of single examples, whose sums have to be exact before they are sent."""


def grid_of(bound: float, bits: int = GRID_BITS) -> float:
    """A power of two, `bits` bits below `bound`."""
    return math.ldexp(1.0, math.frexp(bound)[1] - 1 - bits)


def clipped(arrays: Arrays, bound: float, bits: int = GRID_BITS, layers: Layers | None = None) -> tuple[Arrays, bool]:
    """x · min(1, C / ‖x‖) with each number cut off to the grid, and whether x was no longer than C.

    Cutting off makes numbers smaller in size only, so the norm is at most C whatever rounding does. In single
    precision and better the numbers on the grid are exact.

    Args:
        bound: C, above 0.
        bits: how much finer than C the grid is.
        layers: the parts that are clipped by themselves, which make up C together; None is all in one.
    """
    vector, grid = Vector.of(arrays), grid_of(bound, bits)
    if layers is None:
        within = _shorten(vector.values, bound)
    else:
        within = True
        for names, most in layers:
            parts = np.concatenate([vector[name].ravel() for name in names])
            within = _shorten(parts, most) and within
            for name, part in zip(names, np.split(parts, _ends(vector, names)), strict=True):
                vector[name][...] = part.reshape(vector[name].shape)
    vector.values /= grid
    np.trunc(vector.values, out=vector.values)
    vector.values *= grid
    return vector.arrays(), within


def _ends(vector: Vector, names: Sequence[str]) -> list[int]:
    return np.cumsum([vector[name].size for name in names])[:-1].tolist()


def _shorten(values: Float64, bound: float) -> bool:
    """Scale `values` down to the bound, where they lie; whether they were within it."""
    # Scaled by the largest number first: the square of a finite one may be infinite, or nothing.
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest):
        return False  # the server refuses it by name
    norm = 0.0 if largest == 0 else largest * float(np.linalg.norm(values / largest))
    if norm > bound:
        values *= bound / norm * (1 - 2**-40)
    return norm <= bound


def capped(weight: float, cap: float) -> float:
    """`weight`, at most `cap`, cut off to a grid ten bits below it."""
    grid = grid_of(cap, WEIGHT_BITS)
    return math.floor(min(weight, cap) / grid) * grid
