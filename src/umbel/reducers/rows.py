"""The updates of one group as the rows of a matrix that is never there as a whole: it is read in column blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, cmp_to_key
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.dtypes import Array, Float64, widen
from umbel.schema import Schema, Segment

BLOCK_ELEMENTS = 2**18
"""Elements of a column block, all rows together: what stays in a core's cache."""
SINGLE = frozenset({"F32", "F16", "BF16", "I8", "U8", "I16", "U16", "BOOL"})
"""Formats whose every value is a float32: they are worked on in single precision, all others in double."""
LARGEST_VALUE = 1e100
"""Squares of larger values, which no honest model has, would not be finite numbers."""


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
        """(first column, the rows' elements from there on), block by block; each block may be overwritten."""
        for segment, start, stop in self._spans():
            yield segment.start + start, self._through(_stacked(self.updates, segment, start, stop))

    def _through(self, block: Array) -> Array:
        return block if self.mixing is None else self.mixing.astype(block.dtype) @ block

    def _spans(self) -> Iterator[tuple[Segment, int, int]]:
        width = max(BLOCK_ELEMENTS // max(len(self.updates), 1), 256)
        for segment in self.schema.segments:
            for start in range(0, segment.size, width):
                yield segment, start, min(segment.size, start + width)

    def combined(self, coefficients: Float64) -> Vector:
        """Σ aᵢ·xᵢ."""
        own = coefficients if self.mixing is None else coefficients @ self.mixing
        used = np.flatnonzero(own)
        kept, result = [self.updates[i] for i in used], Vector.zeros(self.schema)
        for segment, start, stop in self._spans() if kept else ():
            block = _stacked(kept, segment, start, stop)
            result.values[segment.start + start : segment.start + stop] = own[used].astype(block.dtype) @ block
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
        honest ones' reach, so that single precision is enough for the distances between those. Each row is divided by
        its length beforehand, and no square overflows.
        """
        count, lengths = len(self.updates), self.lengths
        central = np.argsort(lengths, kind="stable")[: count // 2 + 1]
        scales = np.maximum(np.append(lengths, 0.0), np.median(lengths) if count else 0.0)
        scales[scales == 0] = 1.0
        total = np.zeros((count + 1, count + 1))
        for segment, start, stop in self._spans():
            block = _stacked(self.updates, segment, start, stop, more=1)
            block -= block[central].mean(axis=0)
            block *= (1.0 / scales).astype(block.dtype)[:, None]
            total += block @ block.T
        return total * scales[:, None] * scales

    @cached_property
    def distances(self) -> Float64:
        """Euclidean distances between the rows and, in the last row and column, from zero."""
        squares = np.diag(self.gram)
        found = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * self.gram, 0.0))
        np.fill_diagonal(found, 0.0)
        return found

    @property
    def apart(self) -> Float64:
        """Distances between the rows alone."""
        return self.distances[:-1, :-1]

    @cached_property
    def products(self) -> Float64:
        """Inner products of the rows themselves."""
        about = self.gram - self.gram[-1]
        return (about - about[:, -1:])[:-1, :-1]


def _stacked(updates: Sequence[Arrays], segment: Segment, start: int, stop: int, *, more: int = 0) -> Array:
    """Some columns of the updates, in single or double precision, with `more` rows of zeros beneath them."""
    single = segment.dtype in SINGLE
    block: NDArray[Any] = np.empty((len(updates) + more, stop - start), np.float32 if single else np.float64)
    for row, update in zip(block, updates, strict=False):
        flat = update.flat(segment)[start:stop]
        row[...] = widen(flat, "BF16") if segment.dtype == "BF16" else flat
    block[len(updates) :] = 0.0
    if segment.dtype == "F64":
        np.clip(block, -LARGEST_VALUE, LARGEST_VALUE, out=block)
    return block


def _length(update: Arrays) -> float:
    total = 0.0
    for segment in update.schema.segments:
        for start in range(0, segment.size, 16_384):
            part = _stacked([update], segment, start, min(segment.size, start + 16_384))[0]
            square = float(part @ part) if _is_tame(part) else float(np.square(part, dtype=np.float64).sum())
            total += square
    return float(np.sqrt(total))


def _is_tame(part: Array) -> bool:
    """Whether squares in the part's own precision neither overflow nor vanish."""
    most = float(np.abs(part).max())
    return part.dtype == np.float64 or most == 0 or 1e-12 < most < 1e15


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
