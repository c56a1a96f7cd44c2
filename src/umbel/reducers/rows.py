"""The updates of one group as the rows of a matrix that is never there as a whole: it is read in column blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, cmp_to_key
from typing import final

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.dtypes import Array, Float64, widen
from umbel.schema import Schema

BLOCK_ELEMENTS = 2**18
"""Elements of a column block, all rows together: what stays in a core's cache."""
SINGLE = frozenset({"F32", "F16", "BF16", "I8", "U8", "I16", "U16", "BOOL"})
"""Formats whose every value is a float32: they are worked on in single precision, all others in double."""
LARGEST_VALUE = 1e100
"""Squares of larger values, which no honest model has, would not be finite numbers."""
SMALL, LARGE = 1e-12, 1e15
"""Lengths of vectors between which squares in single precision neither vanish nor overflow."""


@final
class Rows:
    """n updates in an order that depends on what they hold alone, seen through an m × n matrix that mixes them.

    Args:
        schema: that of every update.
        updates: in any order; those of weight 0 are left out beforehand.
        model: the model that the updates began from, if it is known.
    """

    def __init__(self, schema: Schema, updates: Sequence[Arrays], model: Arrays | None = None) -> None:
        self.schema = schema
        self.updates = sorted(updates, key=cmp_to_key(_compare))
        self.model = model
        self.mixing: Float64 | None = None

    def __len__(self) -> int:
        return len(self.updates) if self.mixing is None else len(self.mixing)

    def mixed(self, mixing: Float64) -> Rows:
        """The rows `mixing @ self`; their distances follow from those of these, without another look at the updates."""
        result = Rows(self.schema, (), self.model)
        result.updates = self.updates
        result.mixing = mixing if self.mixing is None else mixing @ self.mixing
        # The last row of the Gram matrix is the zero vector's, which stays where it is.
        wide = np.zeros((len(mixing) + 1, len(self) + 1))
        wide[:-1, :-1], wide[-1, -1] = mixing, 1.0
        wide[:-1, -1] = 1.0 - mixing.sum(axis=1)
        result.gram = wide @ self.gram @ wide.T
        return result

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """(first column, the rows' elements from there on), block by block; each lasts until the next is asked for."""
        for start, block in _blocks(self.schema, self.updates):
            yield start, block if self.mixing is None else self.mixing.astype(block.dtype) @ block

    def combined(self, coefficients: Float64) -> Vector:
        """Σ aᵢ·xᵢ."""
        own = coefficients if self.mixing is None else coefficients @ self.mixing
        used = np.flatnonzero(own)
        result = Vector.zeros(self.schema)
        for start, block in _blocks(self.schema, [self.updates[i] for i in used]):
            result.values[start : start + block.shape[1]] = own[used].astype(block.dtype) @ block
        return result

    def mean(self) -> Vector:
        """The plain mean of the rows."""
        return self.combined(np.full(len(self), 1.0 / len(self)))

    @cached_property
    def lengths(self) -> Float64:
        """The Euclidean norms of the updates, before they are mixed."""
        return np.array([_length(update) for update in self.updates])

    @cached_property
    def norms(self) -> Float64:
        """The Euclidean norms of the rows."""
        return self.lengths if self.mixing is None else self.distances[:-1, -1]

    @cached_property
    def gram(self) -> Float64:
        """Inner products of the rows and, in the last row and column, of the zero vector, around a common centre.

        The centre is the mean of the half of the updates that are shortest: a minority cannot move it beyond the
        honest ones' reach, so that single precision is enough for the distances between those.
        """
        count, scales = len(self.updates), self._scales()
        central = np.zeros(count + 1)
        half = np.argsort(self.lengths, kind="stable")[: count // 2 + 1]
        central[half] = 1.0 / len(half)
        total = np.zeros((count + 1, count + 1))
        for _, block in _blocks(self.schema, self.updates, more=1):
            block -= central.astype(block.dtype) @ block
            if scales is not None:
                block *= (1.0 / scales).astype(block.dtype)[:, None]
            total += block @ block.T
        return total if scales is None else total * scales[:, None] * scales

    def _scales(self) -> Float64 | None:
        """What to divide each update and the zero vector by, where squares in single precision would not do."""
        lengths, middle = np.append(self.lengths, 0.0), float(np.median(self.lengths)) if self.updates else 0.0
        if middle == 0 or (middle > SMALL and lengths.max() < LARGE):
            return None
        return np.maximum(lengths, middle)

    @cached_property
    def distances(self) -> Float64:
        """Euclidean distances between the rows and, in the last row and column, from zero."""
        squares = np.diag(self.gram)
        found = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * self.gram, 0.0))
        np.fill_diagonal(found, 0.0)
        return found

    def distances_to(self, shares: Float64) -> Float64:
        """Euclidean distances of the rows from Σ aᵢ·xᵢ."""
        point = np.append(shares, 1.0 - shares.sum())
        about = self.gram @ point
        squares = np.diag(self.gram) - 2.0 * about + point @ about
        return np.sqrt(np.maximum(squares[:-1], 0.0))

    @property
    def apart(self) -> Float64:
        """Distances between the rows alone."""
        return self.distances[:-1, :-1]

    @cached_property
    def products(self) -> Float64:
        """Inner products of the rows themselves."""
        about = self.gram - self.gram[-1]
        return (about - about[:, -1:])[:-1, :-1]


def _blocks(schema: Schema, updates: Sequence[Arrays], *, more: int = 0) -> Iterator[tuple[int, Array]]:
    """The updates' columns, in single or double precision, with `more` rows of zeros beneath them."""
    height = len(updates) + more
    width = max(BLOCK_ELEMENTS // max(height, 1), 256)
    # New memory for each block would take longer than what is done with it.
    room = np.empty(8 * height * width, np.uint8)
    for segment in schema.segments if updates else ():
        dtype = np.dtype(np.float32 if segment.dtype in SINGLE else np.float64)
        flats = [update.flat(segment) for update in updates]
        for start in range(0, segment.size, width):
            stop = min(segment.size, start + width)
            block = room[: dtype.itemsize * height * (stop - start)].view(dtype).reshape(height, stop - start)
            for row, flat in zip(block, flats, strict=False):
                row[...] = widen(flat[start:stop], "BF16") if segment.dtype == "BF16" else flat[start:stop]
            block[len(updates) :] = 0.0
            if segment.dtype == "F64":
                np.clip(block, -LARGEST_VALUE, LARGEST_VALUE, out=block)
            yield segment.start + start, block


def _length(update: Arrays) -> float:
    total = 0.0
    for segment in update.schema.segments:
        flat = update.flat(segment)
        for start in range(0, segment.size, 16_384):
            part = flat[start : start + 16_384]
            with np.errstate(over="ignore"):
                square = float(part @ part) if segment.dtype == "F32" else 0.0
            # Where single precision overflows or vanishes, and for other formats, in double.
            total += square if SMALL**2 < square < LARGE**2 else _square(widen(part, segment.dtype))
    return float(np.sqrt(total))


def _square(part: Float64) -> float:
    clipped = np.clip(part, -LARGEST_VALUE, LARGEST_VALUE)
    return float(clipped @ clipped)


def _compare(one: Arrays, other: Arrays) -> int:
    """Which of two updates comes first, by their bytes."""
    width, start = 64, 0
    while start < one.data.size:
        left, right = one.data[start : start + width], other.data[start : start + width]
        different = left != right
        if different.any():
            at = int(different.argmax())
            return -1 if left[at] < right[at] else 1
        start, width = start + width, min(width * 4, 2**16)
    return 0
