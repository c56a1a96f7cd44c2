"""Sums in Z_2^32: masked vectors, added up where they arise and merged upward without anybody opening one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Vector
from umbel.message import Group
from umbel.reducers import Accumulator, Reduced, Reducer
from umbel.reducers.ladder import Allocate, zeroed
from umbel.schema import ArraySpec, Schema, Slice

GROUP, WORDS = "masked", "words"


def words_schema(length: int) -> dict[str, Schema]:
    """The one group of an update that is a masked vector."""
    return {GROUP: Schema([ArraySpec(WORDS, "U32", (length,), "averaged")])}


@final
@dataclass(frozen=True)
class Ring(Reducer):
    """The sum of masked vectors modulo 2^32. Weights are inside the vectors and ignored here."""

    linear: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def memory_bytes(self, schema: Mapping[str, Schema], updates: int) -> int:
        return 4 * schema[GROUP].size

    def start(self, schema: Mapping[str, Schema], allocate: Allocate | None = None) -> Accumulator:
        return RingSum(schema[GROUP], (allocate or zeroed)(4 * schema[GROUP].size))

    def restore(self, schema: Mapping[str, Schema], plain: Any, buffers: Sequence[NDArray[np.uint8]]) -> Accumulator:
        return RingSum(schema[GROUP], buffers[0], plain)


@final
class RingSum(Accumulator):
    """The sum so far, in `total`."""

    def __init__(self, schema: Schema, storage: NDArray[np.uint8], count: int = 0) -> None:
        self.schema, self.storage, self.count = schema, storage, count
        self.total: NDArray[np.uint32] = storage.view(np.uint32)

    def fold(self, groups: Mapping[str, Group]) -> None:
        self.total += groups[GROUP].arrays.flat(self.schema.segments[0])
        self.count += 1

    def merge(self, other: Accumulator) -> None:
        assert isinstance(other, RingSum)
        self.total += other.total
        self.count += other.count

    def result(self) -> dict[str, Reduced]:
        return {GROUP: Reduced(Vector(self.schema, self.total.astype(np.float64)), float(self.count), self.count)}

    def cut(self, piece: Sequence[Slice]) -> dict[str, Reduced]:
        whole = self.result()[GROUP]
        return {GROUP: Reduced(whole.total.cut(piece), whole.weight, self.count)}

    def export(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        return self.count, [self.storage]


@final
@dataclass
class Opened(Accumulator):
    """A secure sum after it was opened: what `step` is given. Nothing can be added to it."""

    groups: dict[str, Reduced]

    def fold(self, groups: Mapping[str, Group]) -> None:
        raise AssertionError("an opened sum takes no more updates")

    def merge(self, other: Accumulator) -> None:
        raise AssertionError("an opened sum merges with none")

    def result(self) -> dict[str, Reduced]:
        return dict(self.groups)

    def cut(self, piece: Sequence[Slice]) -> dict[str, Reduced]:
        there = {part.name for part in piece}
        return {
            name: reduced
            if there.isdisjoint(reduced.total.schema.by_name)
            else Reduced(reduced.total.cut(piece), reduced.weight, reduced.count)
            for name, reduced in self.groups.items()
        }

    def export(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        raise AssertionError("an opened sum stays where it was opened")
