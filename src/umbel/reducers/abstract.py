"""What every reducer gives: an accumulator that folds updates, merges with others and yields one result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.message import Group
from umbel.reducers.ladder import Allocate
from umbel.schema import Schema, Slice


@final
@dataclass(frozen=True, slots=True)
class Reduced:
    """One group after reduction.

    Attributes:
        total: for a linear reducer the sum of w·x; otherwise the reduced value, with weight 1.
        weight: the sum of the weights.
        count: how many updates went in.
    """

    total: Vector
    weight: float
    count: int

    def mean(self) -> Vector:
        """`total / weight`; zeros where nothing weighs anything."""
        if self.weight == 0:
            return Vector.zeros(self.total.schema)
        return Vector(self.total.schema, self.total.values / self.weight)


@final
class Reduction(Mapping[str, Reduced]):
    """The reduced groups of a round. `population` is how many clients could have been asked."""

    def __init__(self, groups: Mapping[str, Reduced], population: int) -> None:
        self.groups = groups
        self.population = population

    def __getitem__(self, name: str) -> Reduced:
        return self.groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)


class Accumulator(ABC):
    """Holds what was folded so far, for every group of an update."""

    @abstractmethod
    def fold(self, groups: Mapping[str, Group]) -> None:
        """Take in one validated update."""

    @abstractmethod
    def merge(self, other: Accumulator) -> None:
        """Take in what another accumulator of the same reducer and schema holds; `other` is used up."""

    @abstractmethod
    def result(self) -> dict[str, Reduced]:
        """The reduced groups."""

    @abstractmethod
    def cut(self, piece: Sequence[Slice]) -> dict[str, Reduced]:
        """The reduced groups, with what each has of a piece; a group that has none of its arrays is given whole."""

    def began_from(self, model: Arrays) -> None:
        """Take note of the model that the updates began from; told before `result`."""
        return

    @abstractmethod
    def export(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        """Plain data and buffers from which `Reducer.restore` rebuilds this accumulator in another process."""


class RowAccumulator(Accumulator):
    """One that can take in many updates at once, with the same bits."""

    @abstractmethod
    def fold_rows(self, rows: Mapping[str, NDArray[np.uint8]], weights: Mapping[str, Sequence[float]]) -> None:
        """Take in validated updates.

        Args:
            rows: for each group a row of bytes per update, in the layout of the group's schema.
            weights: theirs.
        """


class Reducer(ABC):
    """A value that says how updates are combined. `linear` reducers yield exact weighted sums and may be nested."""

    linear: ClassVar[bool]
    elementwise: ClassVar[bool] = False
    """Whether each element of the result comes from that element of the updates alone (and their weights)."""
    folds_rows: ClassVar[bool] = False
    """Whether its accumulators are `RowAccumulator`s."""

    @property
    def least_updates(self) -> int:
        """How many updates it needs; a round that could not have so many is refused before the run."""
        return 1

    @abstractmethod
    def memory_bytes(self, schema: Mapping[str, Schema], updates: int) -> int:
        """How much memory an accumulator takes for so many updates."""

    @abstractmethod
    def start(self, schema: Mapping[str, Schema], allocate: Allocate | None = None) -> Accumulator:
        """An empty accumulator for groups of these schemas; `allocate` gives zeroed bytes (default: private memory)."""

    @abstractmethod
    def restore(self, schema: Mapping[str, Schema], plain: Any, buffers: Sequence[NDArray[np.uint8]]) -> Accumulator:
        """The accumulator that `export` described; the buffers are used in place."""
