"""What the robust reducers share: they keep the updates of a round and look at all of them at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.errors import ConfigError
from umbel.message import Group
from umbel.reducers.abstract import Accumulator, Reduced, Reducer
from umbel.reducers.ladder import Allocate, zeroed
from umbel.reducers.rows import BLOCK_ELEMENTS, Rows
from umbel.schema import Schema, Slice


@dataclass(frozen=True)
class Robust(Reducer):
    """The abstract robust reducer. Each group of an update is reduced by itself; weights are ignored, as a client can
    claim any, but those of 0 leave an update out.

    Keeps every update of a round in memory. Cannot be combined with secure sums or privacy: they need a linear reducer.
    """

    linear: ClassVar[bool] = False

    @abstractmethod
    def reduced(self, rows: Rows) -> Vector:
        """What these updates, at least `least_updates` of them, become."""

    def memory_bytes(self, schema: Mapping[str, Schema], updates: int) -> int:
        largest = max((expected.size for expected in schema.values()), default=0)
        # The result in float64, a column block twice and a few matrices of distances.
        working = 0 if self.elementwise else 8 * largest + 16 * BLOCK_ELEMENTS + 64 * updates**2
        return updates * sum(expected.nbytes for expected in schema.values()) + working

    def start(self, schema: Mapping[str, Schema], allocate: Allocate | None = None) -> Accumulator:
        return Collected(self, dict(schema), allocate or zeroed)

    def restore(self, schema: Mapping[str, Schema], plain: Any, buffers: Sequence[NDArray[np.uint8]]) -> Accumulator:
        result = Collected(self, dict(schema), zeroed)
        for name, buffer in zip(plain["names"], buffers, strict=True):
            result.kept[name].append(Arrays(schema[name], buffer))
        result.count = plain["count"]
        return result


@final
class Collected(Accumulator):
    """The updates of a round, as they are."""

    def __init__(self, reducer: Robust, schema: dict[str, Schema], allocate: Allocate) -> None:
        self.reducer = reducer
        self.schema = schema
        self.allocate = allocate
        self.kept: dict[str, list[Arrays]] = {name: [] for name in schema}
        self.count = 0
        self.model: Arrays | None = None
        self._whole: dict[str, Reduced] | None = None

    def fold(self, groups: Mapping[str, Group]) -> None:
        self._whole = None
        for name, group in groups.items():
            if group.weight:
                buffer = self.allocate(group.arrays.nbytes)
                buffer[:] = group.arrays.buffer
                self.kept[name].append(Arrays(self.schema[name], buffer))
        self.count += 1

    def merge(self, other: Accumulator) -> None:
        assert isinstance(other, Collected)
        self._whole = None
        for name, updates in other.kept.items():
            self.kept[name].extend(updates)
        self.count += other.count

    def began_from(self, model: Arrays) -> None:
        self.model, self._whole = model, None

    def result(self) -> dict[str, Reduced]:
        return {name: self._reduced(self.schema[name], updates) for name, updates in self.kept.items()}

    def cut(self, piece: Sequence[Slice]) -> dict[str, Reduced]:
        if not self.reducer.elementwise:
            # Each piece needs the whole result: it is found once.
            self._whole = self._whole or self.result()
            return {name: _cut(reduced, piece) for name, reduced in self._whole.items()}
        names = {part.name for part in piece}
        found: dict[str, Reduced] = {}
        for name, updates in self.kept.items():
            schema = self.schema[name]
            if not names.isdisjoint(schema.by_name):
                schema, updates = schema.cut(piece), [update.cut(piece) for update in updates]
            found[name] = self._reduced(schema, updates)
        return found

    def _reduced(self, schema: Schema, updates: list[Arrays]) -> Reduced:
        if not updates:
            return Reduced(Vector.zeros(schema), 0.0, self.count)
        least = self.reducer.least_updates
        if len(updates) < least:
            raise ConfigError(
                f"{self.reducer!r} needs at least {least} updates of a weight above 0, got {len(updates)}; ask more "
                "clients, set the config's quorum, or withstand fewer bad ones"
            )
        return Reduced(self.reducer.reduced(Rows(schema, updates, self.model)), 1.0, self.count)

    def export(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        names = [name for name, updates in self.kept.items() for _ in updates]
        return {"count": self.count, "names": names}, [u.buffer for updates in self.kept.values() for u in updates]


def _cut(reduced: Reduced, piece: Sequence[Slice]) -> Reduced:
    if {part.name for part in piece}.isdisjoint(reduced.total.schema.by_name):
        return reduced
    return Reduced(reduced.total.cut(piece), reduced.weight, reduced.count)


@dataclass(frozen=True)
class Withstands(Robust):
    """A robust reducer that is told how many bad updates to withstand; most need 2·f + 1 updates or more.

    Raises:
        ConfigError: `f` is no whole number of at least 0.
    """

    f: int

    def __post_init__(self) -> None:
        check_f(self.f)

    @property
    def least_updates(self) -> int:
        return 2 * self.f + 1

    @abstractmethod
    def reduced(self, rows: Rows) -> Vector:
        """What these updates, of which up to `f` may be bad, become."""


def check_f(f: object) -> None:
    """Refuse a number of bad updates that is none."""
    if not isinstance(f, int) or isinstance(f, bool) or f < 0:
        raise ConfigError(f"f must be a whole number of at least 0, got {f!r}; it is how many bad updates to withstand")
