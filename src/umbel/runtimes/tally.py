"""What comes back from some clients of a phase, already reduced: it grows with models, never with clients' arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.cohort import Receipts
from umbel.message import Group
from umbel.reducers import Accumulator, Reducer
from umbel.reducers.exact import ExactSum
from umbel.reducers.ladder import Allocate
from umbel.schema import Schema


@final
@dataclass
class Tally:
    """Partial sums of one phase with the list of who is in them.

    Attributes:
        accumulator: the folded updates; None while there are none.
        metrics: name → (sum of metric · examples, sum of examples).
        receipts: one per answered ask.
        states: client → bytes of its pending state.
        own: client → the small plain data that it answered with.
        clients: per-client metrics, if the plan wants them.
    """

    accumulator: Accumulator | None = None
    examples: ExactSum = field(default_factory=ExactSum)
    metrics: dict[str, tuple[ExactSum, ExactSum]] = field(default_factory=dict[str, tuple[ExactSum, ExactSum]])
    receipts: Receipts = field(default_factory=Receipts)
    states: dict[str, bytes] = field(default_factory=dict[str, bytes])
    own: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    warnings: list[str] = field(default_factory=list[str])
    clients: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    schema: Mapping[str, Schema] | None = None

    def fold(
        self,
        reducer: Reducer,
        schema: Mapping[str, Schema],
        groups: Mapping[str, Group],
        allocate: Allocate | None = None,
    ) -> None:
        """Add one validated update."""
        self.started(reducer, schema, allocate).fold(groups)

    def started(self, reducer: Reducer, schema: Mapping[str, Schema], allocate: Allocate | None = None) -> Accumulator:
        """The accumulator, begun if nothing is folded yet."""
        if self.accumulator is None:
            self.accumulator, self.schema = reducer.start(schema, allocate), schema
        return self.accumulator

    def measure(self, examples: float, metrics: Mapping[str, float]) -> None:
        """Add one client's numbers, weighted by its examples."""
        self.examples.add(examples)
        if examples:
            for name, value in metrics.items():
                total, weight = self._sums(name)
                total.add(value * examples)
                weight.add(examples)

    def measure_many(self, examples: Sequence[float], metrics: Mapping[str, Sequence[float]]) -> None:
        """Add many clients' numbers; the same as `measure` of one after the other."""
        self.examples.add_many(examples)
        for name, values in metrics.items() if any(examples) else ():
            total, weight = self._sums(name)
            total.add_many([value * count for value, count in zip(values, examples, strict=True) if count])
            weight.add_many(examples)

    def _sums(self, name: str) -> tuple[ExactSum, ExactSum]:
        return self.metrics.setdefault(name, (ExactSum(), ExactSum()))

    def means(self) -> dict[str, float]:
        """Each metric's mean over the examples of the clients that reported it."""
        return {name: total.value / weight.value for name, (total, weight) in sorted(self.metrics.items())}

    def absorb(self, other: Tally) -> None:
        """Add what `other` holds; it is used up."""
        if self.accumulator is None:
            self.accumulator, self.schema = other.accumulator, other.schema
        elif other.accumulator is not None:
            self.accumulator.merge(other.accumulator)
        self.examples.merge(other.examples)
        for name, (total, weight) in other.metrics.items():
            if name in self.metrics:
                self.metrics[name][0].merge(total)
                self.metrics[name][1].merge(weight)
            else:
                self.metrics[name] = (total, weight)
        self.receipts.absorb(other.receipts)
        self.states |= other.states
        self.own |= other.own
        self.warnings += other.warnings
        self.clients += other.clients

    def export(self) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
        """Plain data and buffers for `restore` in the parent process."""
        plain: dict[str, Any] = {
            "examples": self.examples.partials,
            "metrics": {name: (t.partials, w.partials) for name, (t, w) in self.metrics.items()},
            "receipts": self.receipts,
            "states": self.states,
            "own": self.own,
            "warnings": self.warnings,
            "clients": self.clients,
            "schema": None if self.schema is None else {name: s.specs for name, s in self.schema.items()},
        }
        if self.accumulator is None:
            return plain, []
        plain["accumulator"], buffers = self.accumulator.export()
        return plain, buffers

    @classmethod
    def restore(cls, reducer: Reducer, plain: dict[str, Any], buffers: Sequence[NDArray[np.uint8]]) -> Tally:
        schema = None if plain["schema"] is None else {name: Schema(specs) for name, specs in plain["schema"].items()}
        return cls(
            accumulator=None if schema is None else reducer.restore(schema, plain["accumulator"], buffers),
            examples=ExactSum(plain["examples"]),
            metrics={name: (ExactSum(t), ExactSum(w)) for name, (t, w) in plain["metrics"].items()},
            receipts=plain["receipts"],
            states=plain["states"],
            own=plain["own"],
            warnings=plain["warnings"],
            clients=plain["clients"],
            schema=schema,
        )
