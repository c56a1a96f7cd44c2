"""The order-free sum: any order of `add` and any tree of `merge` give the same bits.

Each contribution x·w (float64) is split onto a fixed ladder of grids whose units are 2**(33·j). Per block of 16,384
elements the top rungs are kept: two of them, three for float64 data. Which rung is the top depends on the block's
largest contribution only, so it does not depend on order, and a rounding to a grid does not depend on what was added
before. Every partial sum fits 53 bits, so no addition rounds.

The result is the exact sum of the contributions, each rounded to the lowest kept grid: at worst 2**-33 (2**-66 for
float64 data) of the block's largest contribution away from its true value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.dtypes import DTYPES, LARGEST, Float64, widen
from umbel.errors import ArraysError
from umbel.schema import Schema, Segment, Slice

GUARD_BITS, STEP_BITS, BLOCK = 20, 33, 16_384
LOWEST, HIGHEST = -20, 29
MAX_CONTRIBUTIONS = 2**GUARD_BITS
ROW_ELEMENTS = 2**16  # of a matrix that is added at once: what a core's cache holds
Allocate: TypeAlias = Callable[[int], NDArray[np.uint8]]

_UNIT = {rung: math.ldexp(1.5, 52 + STEP_BITS * rung) for rung in range(LOWEST - 3, HIGHEST + 1)}


def zeroed(nbytes: int) -> NDArray[np.uint8]:
    """Fresh zeroed bytes."""
    return np.zeros(nbytes, np.uint8)


@final
class LadderSum:
    """Sums w·x over arrays of one schema.

    Args:
        schema: what each contribution looks like.
        storage: zeroed bytes to keep the sum in, `storage_bytes(schema)` of them; None allocates.
    """

    __slots__ = ("_a", "_b", "_segments", "rungs", "schema", "storage")

    def __init__(self, schema: Schema, storage: NDArray[np.uint8] | None = None) -> None:
        self.schema = schema
        self.storage = zeroed(self.storage_bytes(schema)) if storage is None else storage
        self._segments: list[tuple[Segment, int, list[Float64]]] = []
        blocks, cursor = 0, 0
        doubles = self.storage[: self.storage.nbytes // 8 * 8].view(np.float64)
        for segment in schema.segments:
            rungs: list[Float64] = []
            for _ in range(_kept(segment)):
                rungs.append(doubles[cursor : cursor + segment.size])
                cursor += segment.size
            self._segments.append((segment, blocks, rungs))
            blocks += -(-segment.size // BLOCK)
        # A stored rung is shifted so that zeroed storage means "the lowest".
        self.rungs = doubles[cursor : cursor + blocks].view(np.int64)
        longest = min(BLOCK, max((s.size for s in schema.segments), default=0))
        self._a, self._b = np.empty(longest), np.empty(longest)

    @staticmethod
    def storage_bytes(schema: Schema) -> int:
        blocks = sum(-(-s.size // BLOCK) for s in schema.segments)
        return 8 * (blocks + sum(_kept(s) * s.size for s in schema.segments))

    def add(self, arrays: Arrays, weight: float) -> None:
        """Add `weight` times `arrays`, whose schema must be `self.schema` and whose values must be finite."""
        for segment, first, rungs in self._segments:
            flat = arrays.flat(segment)
            for block, start in enumerate(range(0, segment.size, BLOCK), first):
                part = slice(start, min(segment.size, start + BLOCK))
                x = widen(flat[part], "BF16") if segment.dtype == "BF16" else flat[part]
                # Rounding keeps order, so the largest product is the product of the largest: half the bytes to look at.
                largest = max(float(x.max()), -float(x.min())) * abs(weight)
                if largest:
                    term = np.multiply(x, weight, out=self._a[: x.size], dtype=np.float64)
                    self._add_block(term, largest, block, [r[part] for r in rungs])

    def add_rows(self, rows: NDArray[np.uint8], weights: Float64) -> None:
        """Add many: the same bits as `add` of each row's arrays with its weight.

        Args:
            rows: a row of bytes for each, in the layout of `self.schema`.
        """
        header = len(self.schema.header)
        for segment, first, rungs in self._segments:
            size = DTYPES[segment.dtype].itemsize
            begin = header + segment.offset_bytes
            for block, start in enumerate(range(0, segment.size, BLOCK), first):
                part = slice(start, min(segment.size, start + BLOCK))
                some = max(1, ROW_ELEMENTS // (part.stop - part.start))
                for row in range(0, len(rows), some):
                    data = rows[row : row + some, begin + part.start * size : begin + part.stop * size]
                    x = data.view(DTYPES[segment.dtype])
                    wide = widen(x, segment.dtype)
                    wide *= weights[row : row + some, None]
                    self._add_many(wide, block, [r[part] for r in rungs])

    def _add_many(self, terms: Float64, block: int, rungs: list[Float64]) -> None:
        """As `_add_block`, for a matrix: what is on one grid adds up without rounding, in any order."""
        largest = max(float(terms.max()), -float(terms.min()))
        if not largest:
            return
        rung = self._raised(largest, block, rungs)
        for index, kept in enumerate(rungs):
            rounded = terms + _UNIT[rung - index]
            rounded -= _UNIT[rung - index]
            kept += rounded.sum(axis=0)
            if index + 1 < len(rungs):
                terms -= rounded

    def _raised(self, largest: float, block: int, rungs: list[Float64]) -> int:
        """The top rung of a block that is to take a contribution of this size."""
        if not largest < LARGEST:
            raise ArraysError(f"a weighted value reaches {largest:.3g}; sums hold up to {LARGEST:.0g}")
        needed = max(LOWEST, (math.frexp(largest)[1] + GUARD_BITS - 52) // STEP_BITS + 1)
        return self._raise(block, rungs, needed)

    def _add_block(self, term: Float64, largest: float, block: int, rungs: list[Float64]) -> None:
        rung = self._raised(largest, block, rungs)
        rounded = self._b[: term.size]
        for index, kept in enumerate(rungs):
            unit = _UNIT[rung - index]
            if index + 1 < len(rungs):
                np.add(term, unit, out=rounded)
                np.subtract(rounded, unit, out=rounded)
                np.add(kept, rounded, out=kept)
                np.subtract(term, rounded, out=term)
            else:
                np.add(term, unit, out=term)
                np.subtract(term, unit, out=term)
                np.add(kept, term, out=kept)

    def _raise(self, block: int, rungs: list[Float64], rung: int) -> int:
        climb = rung - LOWEST - int(self.rungs[block])
        if climb <= 0:
            return rung - climb
        for index in range(len(rungs) - 1, -1, -1):
            rungs[index][:] = rungs[index - climb] if index >= climb else 0.0
        self.rungs[block] = rung - LOWEST
        return rung

    def merge(self, other: LadderSum) -> None:
        """Add the sum that `other` holds. `other` may be raised on the way; its value stays the same."""
        for (segment, first, mine), (_, _, theirs) in zip(self._segments, other._segments, strict=True):
            for block, start in enumerate(range(0, segment.size, BLOCK), first):
                part = slice(start, min(segment.size, start + BLOCK))
                rung = LOWEST + max(int(self.rungs[block]), int(other.rungs[block]))
                here, there = [r[part] for r in mine], [r[part] for r in theirs]
                self._raise(block, here, rung)
                other._raise(block, there, rung)
                for kept, added in zip(here, there, strict=True):
                    np.add(kept, added, out=kept)

    def value(self) -> Vector:
        """The sum, rounded once to float64."""
        result = np.empty(self.schema.size)
        for segment, _, rungs in self._segments:
            _round(rungs, result[segment.start : segment.start + segment.size])
        return Vector(self.schema, result)

    def cut(self, piece: Sequence[Slice]) -> Vector:
        """What is here of a piece of the sum, rounded once to float64."""
        result = Vector.zeros(self.schema.cut(piece))
        for part in piece:
            if part.name in self.schema.by_name:
                start = self.schema.positions[part.name] + part.start
                segment, _, rungs = next(s for s in self._segments if s[0].start <= start < s[0].start + s[0].size)
                begin = start - segment.start
                _round([rung[begin : begin + part.stop - part.start] for rung in rungs], result[part.name])
        return result


def _round(rungs: Sequence[Float64], out: Float64) -> None:
    # From the smallest up, so that three rungs round as near to once as two.
    np.add(rungs[-1], rungs[-2], out=out)
    for kept in rungs[-3::-1]:
        np.add(out, kept, out=out)


def _kept(segment: Segment) -> int:
    return 3 if segment.dtype == "F64" else 2
