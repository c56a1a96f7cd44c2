"""The weighted mean: exact sums of w·x and of w."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.dtypes import Float64, widen
from umbel.errors import ArraysError
from umbel.message import Group
from umbel.reducers.abstract import Accumulator, Reduced, Reducer, RowAccumulator
from umbel.reducers.exact import ExactSum
from umbel.reducers.ladder import MAX_CONTRIBUTIONS, Allocate, LadderSum, zeroed
from umbel.schema import Schema, Slice


@final
@dataclass(frozen=True)
class Mean(Reducer):
    """Σ w·x / Σ w over the updates of a round.

    Args:
        exact: with True (default) the same updates give the same bits in any order and on any number of workers;
            this takes 16 bytes of memory per element (24 for float64 arrays). With False the sum is plain float64,
            8 bytes per element and about half the time, and its last bits depend on the order.

    Example:
        >>> from umbel.arrays import Arrays
        >>> one, three = Arrays.of({"w": np.float32([1])}), Arrays.of({"w": np.float32([3])})
        >>> total = Mean().start({"delta": one.schema})
        >>> total.fold({"delta": Group(one, 1.0)}); total.fold({"delta": Group(three, 3.0)})
        >>> total.result()["delta"].mean()["w"]
        array([2.5])
    """

    exact: bool = True
    linear: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    folds_rows: ClassVar[bool] = True

    def memory_bytes(self, schema: Mapping[str, Schema], updates: int) -> int:
        kind = LadderSum if self.exact else PlainSum
        return sum(kind.storage_bytes(expected) for expected in schema.values())

    def start(self, schema: Mapping[str, Schema], allocate: Allocate | None = None) -> Accumulator:
        kind = LadderSum if self.exact else PlainSum
        make = allocate or zeroed
        return _Sums({name: kind(s, make(kind.storage_bytes(s))) for name, s in schema.items()})

    def restore(self, schema: Mapping[str, Schema], plain: Any, buffers: Sequence[NDArray[np.uint8]]) -> Accumulator:
        kind = LadderSum if self.exact else PlainSum
        sums = {name: kind(s, buffer) for (name, s), buffer in zip(schema.items(), buffers, strict=True)}
        result = _Sums(sums)
        result.weights = {name: ExactSum(partials) for name, partials in plain["weights"].items()}
        result.count = plain["count"]
        return result


@final
class PlainSum:
    """The float64 sum of w·x in the order of arrival."""

    __slots__ = ("_total", "schema", "storage")

    def __init__(self, schema: Schema, storage: NDArray[np.uint8]) -> None:
        self.schema = schema
        self.storage = storage
        self._total = storage.view(np.float64)

    @staticmethod
    def storage_bytes(schema: Schema) -> int:
        return 8 * schema.size

    def add(self, arrays: Arrays, weight: float) -> None:
        for segment in self.schema.segments:
            flat = arrays.flat(segment)
            for start in range(0, segment.size, 65_536):
                stop = min(segment.size, start + 65_536)
                term = widen(flat[start:stop], segment.dtype)
                np.multiply(term, weight, out=term)
                self._total[segment.start + start : segment.start + stop] += term

    def add_rows(self, rows: NDArray[np.uint8], weights: Float64) -> None:
        for row, weight in zip(rows, weights, strict=True):
            self.add(Arrays(self.schema, row[: self.schema.nbytes]), float(weight))

    def merge(self, other: PlainSum) -> None:
        self._total += other._total

    def cut(self, piece: Sequence[Slice]) -> Vector:
        return Vector(self.schema, self._total).cut(piece)

    def value(self) -> Vector:
        return Vector(self.schema, self._total.copy())


@final
class _Sums(RowAccumulator):
    def __init__(self, sums: Mapping[str, LadderSum | PlainSum]) -> None:
        self.sums: Mapping[str, Any] = sums
        self.weights = {name: ExactSum() for name in sums}
        self.count = 0

    def fold(self, groups: Mapping[str, Group]) -> None:
        self._check_room(1)
        for name, group in groups.items():
            if group.weight:
                self.sums[name].add(group.arrays, group.weight)
            self.weights[name].add(group.weight)
        self.count += 1

    def fold_rows(self, rows: Mapping[str, NDArray[np.uint8]], weights: Mapping[str, Sequence[float]]) -> None:
        count = len(next(iter(rows.values())))
        self._check_room(count)
        for name, data in rows.items():
            # A weight of zero keeps even what is infinite out of the sum.
            used = np.flatnonzero(np.asarray(weights[name]))
            chosen = data if len(used) == count else data[used]
            if len(used):
                self.sums[name].add_rows(chosen, np.asarray(weights[name], np.float64)[used])
            self.weights[name].add_many(weights[name])
        self.count += count

    def _check_room(self, more: int) -> None:
        if self.count + more > MAX_CONTRIBUTIONS:
            raise ArraysError(f"one sum holds {MAX_CONTRIBUTIONS} updates; split the cohort over more rounds")

    def merge(self, other: Accumulator) -> None:
        assert isinstance(other, _Sums)
        for name, total in self.sums.items():
            total.merge(other.sums[name])
            self.weights[name].merge(other.weights[name])
        self.count += other.count

    def result(self) -> dict[str, Reduced]:
        return {name: Reduced(total.value(), self.weights[name].value, self.count) for name, total in self.sums.items()}

    def cut(self, piece: Sequence[Slice]) -> dict[str, Reduced]:
        there = {part.name for part in piece}
        return {
            name: Reduced(
                total.value() if there.isdisjoint(total.schema.by_name) else total.cut(piece),
                self.weights[name].value,
                self.count,
            )
            for name, total in self.sums.items()
        }

    def export(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        weights = {name: total.partials for name, total in self.weights.items()}
        return {"count": self.count, "weights": weights}, [total.storage for total in self.sums.values()]
