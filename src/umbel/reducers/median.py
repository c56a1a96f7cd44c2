"""The coordinate-wise median: robust to a minority of arbitrary updates, and not linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.dtypes import widen
from umbel.message import Group
from umbel.reducers.abstract import Accumulator, Reduced, Reducer
from umbel.reducers.ladder import Allocate, zeroed
from umbel.schema import Schema, Slice

CHUNK = 65_536


@final
@dataclass(frozen=True)
class Median(Reducer):
    """The median of each coordinate over the updates of a round; weights are ignored, those of 0 left out.

    Keeps every update of the round in memory. Cannot be combined with secure sums or privacy: they need a linear
    reducer.

    References:
        D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
        Statistical Rates", ICML 2018, https://arxiv.org/abs/1803.01498
    """

    linear: ClassVar[bool] = False
    elementwise: ClassVar[bool] = True

    def memory_bytes(self, schema: Mapping[str, Schema], updates: int) -> int:
        return updates * sum(expected.nbytes for expected in schema.values())

    def start(self, schema: Mapping[str, Schema], allocate: Allocate | None = None) -> Accumulator:
        return _Collected(dict(schema), allocate or zeroed)

    def restore(self, schema: Mapping[str, Schema], plain: Any, buffers: Sequence[NDArray[np.uint8]]) -> Accumulator:
        result = _Collected(dict(schema), zeroed)
        for name, buffer in zip(plain["names"], buffers, strict=True):
            result.kept[name].append(Arrays(schema[name], buffer))
        result.count = plain["count"]
        return result


@final
class _Collected(Accumulator):
    def __init__(self, schema: dict[str, Schema], allocate: Allocate) -> None:
        self.schema = schema
        self.allocate = allocate
        self.kept: dict[str, list[Arrays]] = {name: [] for name in schema}
        self.count = 0

    def fold(self, groups: Mapping[str, Group]) -> None:
        for name, group in groups.items():
            if group.weight:
                buffer = self.allocate(group.arrays.nbytes)
                buffer[:] = group.arrays.buffer
                self.kept[name].append(Arrays(self.schema[name], buffer))
        self.count += 1

    def merge(self, other: Accumulator) -> None:
        assert isinstance(other, _Collected)
        for name, updates in other.kept.items():
            self.kept[name].extend(updates)
        self.count += other.count

    def result(self) -> dict[str, Reduced]:
        return {name: self._median(self.schema[name], updates) for name, updates in self.kept.items()}

    def cut(self, piece: Sequence[Slice]) -> dict[str, Reduced]:
        names = {part.name for part in piece}
        found: dict[str, Reduced] = {}
        for name, updates in self.kept.items():
            schema = self.schema[name]
            if not names.isdisjoint(schema.by_name):
                schema, updates = schema.cut(piece), [update.cut(piece) for update in updates]
            found[name] = self._median(schema, updates)
        return found

    def _median(self, schema: Schema, updates: list[Arrays]) -> Reduced:
        if not updates:
            return Reduced(Vector.zeros(schema), 0.0, self.count)
        middle = Vector.zeros(schema)
        for segment in schema.segments:
            flats = [update.flat(segment) for update in updates]
            for start in range(0, segment.size, CHUNK):
                stop = min(segment.size, start + CHUNK)
                rows = np.stack([widen(flat[start:stop], segment.dtype) for flat in flats])
                middle.values[segment.start + start : segment.start + stop] = np.median(rows, axis=0)
        return Reduced(middle, 1.0, self.count)

    def export(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        names = [name for name, updates in self.kept.items() for _ in updates]
        return {"count": self.count, "names": names}, [u.buffer for updates in self.kept.values() for u in updates]
