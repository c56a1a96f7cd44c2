"""`Contributions`: what each client of a run was worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, final


@final
@dataclass(frozen=True, kw_only=True)
class ClientValue:
    """One client's worth.

    Attributes:
        client: its id.
        value: by how much the metric is better for it; below 0 it does harm.
        low, high: the ends of the confidence interval; of an exact value the value itself.
    """

    client: str
    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What each client of a run was worth, and how that was found.

    Attributes:
        method: "exact", "monte-carlo", "leave-one-out" or "participation".
        of: what a coalition's value is: "retrained" or "rounds"; "" for "participation".
        metric, less_is_better: what was measured, and which of it is better.
        empty, whole: the metric before training and after it with all clients.
        clients: a value for each, in the order of the clients.
        confidence: the level of the intervals.
        coalitions: how many were measured.
        stuck: how many of these could not close a round, and count with the model that they had by then.
        digest: SHA-256 of the model that all clients train, which is the run's own; "" if none was trained.
    """

    method: str
    of: str
    metric: str
    less_is_better: bool
    empty: float
    whole: float
    clients: tuple[ClientValue, ...]
    confidence: float = 0.95
    coalitions: int = 0
    stuck: int = 0
    digest: str = ""

    @property
    def gain(self) -> float:
        """By how much all clients together made the metric better. Shapley values add up to it."""
        return self.empty - self.whole if self.less_is_better else self.whole - self.empty

    def __getitem__(self, client: str) -> ClientValue:
        return {one.client: one for one in self.clients}[client]

    def plain(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "clients": [asdict(one) for one in self.clients], "gain": self.gain}

    def cells(self) -> list[list[str]]:
        """A line per client as lists of texts, titles first."""
        bounds = self.method == "monte-carlo"
        title = ["client", "value", *([f"{self.confidence:.0%} interval"] if bounds else []), "share"]
        lines = [
            [
                one.client,
                f"{one.value:+.4g}",
                *([f"{one.low:+.4g} to {one.high:+.4g}"] if bounds else []),
                f"{one.value / self.gain:.0%}" if self.gain else "-",
            ]
            for one in self.clients
        ]
        return [title, *lines]

    def __str__(self) -> str:
        rows = self.cells()
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
