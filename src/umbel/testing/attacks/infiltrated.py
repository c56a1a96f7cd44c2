"""`Infiltrated`: a reducer before which bad clients put their heads together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.message import Group
from umbel.reducers import Accumulator, Reduced, Reducer
from umbel.reducers.ladder import Allocate, zeroed
from umbel.schema import Schema, Slice
from umbel.testing.attacks.attack import Attack

T = TypeVar("T")
MARK = "attacker"
"""The group that says whether an update is a bad client's."""


@final
@dataclass(frozen=True)
class Infiltrated(Reducer):
    """`inner`, once the updates with a mark have been replaced by what `attack` crafts from the others."""

    inner: Reducer
    attack: Attack
    linear: ClassVar[bool] = False

    @property
    def least_updates(self) -> int:
        return self.inner.least_updates

    def memory_bytes(self, schema: Mapping[str, Schema], updates: int) -> int:
        kept = updates * sum(expected.nbytes for expected in schema.values())
        # The honest updates in float64, while the attack looks at them.
        looked_at = 16 * updates * max(expected.size for expected in schema.values())
        return kept + looked_at + self.inner.memory_bytes(_unmarked(schema), updates)

    def start(self, schema: Mapping[str, Schema], allocate: Allocate | None = None) -> Accumulator:
        return _Watched(self, dict(schema), allocate or zeroed)

    def restore(self, schema: Mapping[str, Schema], plain: Any, buffers: Sequence[NDArray[np.uint8]]) -> Accumulator:
        result = _Watched(self, dict(schema), zeroed)
        left = iter(buffers)
        for weights in plain["weights"]:
            result.updates.append({n: Group(Arrays(schema[n], next(left)), weight) for n, weight in weights.items()})
        return result


@final
class _Watched(Accumulator):
    def __init__(self, reducer: Infiltrated, schema: dict[str, Schema], allocate: Allocate) -> None:
        self.reducer, self.schema, self.allocate = reducer, schema, allocate
        self.updates: list[dict[str, Group]] = []
        self.model: Arrays | None = None

    def fold(self, groups: Mapping[str, Group]) -> None:
        kept: dict[str, Group] = {}
        for name, group in groups.items():
            buffer = self.allocate(group.arrays.nbytes)
            buffer[:] = group.arrays.buffer
            kept[name] = Group(Arrays(self.schema[name], buffer), group.weight)
        self.updates.append(kept)

    def merge(self, other: Accumulator) -> None:
        assert isinstance(other, _Watched)
        self.updates += other.updates

    def began_from(self, model: Arrays) -> None:
        self.model = model

    def result(self) -> dict[str, Reduced]:
        return self._infiltrated().result()

    def cut(self, piece: Sequence[Slice]) -> dict[str, Reduced]:
        return self._infiltrated().cut(piece)

    def _infiltrated(self) -> Accumulator:
        """What the inner reducer is told."""
        total = self.reducer.inner.start(_unmarked(self.schema))
        if self.model is not None:
            total.began_from(self.model)
        bad = [update for update in self.updates if _is_bad(update)]
        honest = [update for update in self.updates if not _is_bad(update)]
        for update in honest:
            total.fold(_unmarked(update))
        crafted = {name: self._crafted(name, honest, len(bad)) for name in _unmarked(self.schema)}
        for update in bad:
            told = {
                name: Group(crafted[name] or group.arrays, group.weight)
                for name, group in update.items()
                if name != MARK
            }
            total.fold(told)
        return total

    def _crafted(self, name: str, honest: Sequence[Mapping[str, Group]], bad: int) -> Arrays | None:
        if not honest or not bad:
            return None
        # In an order that arrival does not change, so that the attack's sums have the same bits.
        updates = sorted((update[name].arrays for update in honest), key=lambda arrays: arrays.buffer.tobytes())
        vector = self.reducer.attack.crafted(np.stack([Vector.of(arrays).values for arrays in updates]), bad)
        return None if vector is None else Vector(self.schema[name], vector).arrays()

    def export(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        weights = [{name: group.weight for name, group in update.items()} for update in self.updates]
        return {"weights": weights}, [group.arrays.buffer for update in self.updates for group in update.values()]


def _is_bad(update: Mapping[str, Group]) -> bool:
    return bool(update[MARK].arrays[MARK][0])


def _unmarked(groups: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in groups.items() if name != MARK}
