"""`Sweep`: what a sweep gave, run by run and point by point."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from umbel.errors import ConfigError, UmbelError
from umbel.runtimes.history import RoundRecord
from umbel.runtimes.sweep.space import Point, text_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        point: its settings.
        seed: its seed.
        value: the sweep's metric after the last round; None if it failed.
        error: why it failed, in one sentence; None if it did not.
        rounds: its rounds.
        run: its id in the store, "" if it never got there.
        kept: whether it was read from the store and not run now.
        pruned: whether a pruner broke it off; `error` says when.
    """

    point: Point
    seed: int
    value: float | None
    error: str | None = None
    rounds: tuple[RoundRecord, ...] = field(default=(), compare=False)
    run: str = field(default="", compare=False)
    kept: bool = field(default=False, compare=False)
    pruned: bool = False

    @property
    def last_round(self) -> int:
        """The number of its last round; 0 if it has none."""
        return max((record.round for record in self.rounds), default=0)

    @property
    def seconds(self) -> float:
        """Wall time of its rounds."""
        return sum(record.seconds for record in self.rounds)


@final
@dataclass(frozen=True)
class PointResult:
    """One point of a sweep, over its seeds.

    Attributes:
        point: its settings.
        values: the metric of each run that did not fail.
        errors: why others failed or were pruned.
        pruned: how many of these were pruned.
    """

    point: Point
    values: tuple[float, ...]
    errors: tuple[str, ...] = ()
    pruned: int = 0

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None if a run failed or was pruned: that of the others would not compare."""
        return None if self.errors or not self.values else math.fsum(self.values) / len(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds (n - 1 below the line); None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 and not self.errors else None


@final
@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep gave.

    Attributes:
        metric: what was compared.
        less_is_better: whether less of it is better.
        runs: every run, in the order in which the sweep came to them.
        ended: "finished" or "interrupted".
    """

    metric: str
    less_is_better: bool
    runs: tuple[SweepRun, ...]
    ended: str = "finished"

    @property
    def points(self) -> tuple[PointResult, ...]:
        """One result per point, in the order of the runs."""
        found: dict[str, list[SweepRun]] = {}
        for run in self.runs:
            found.setdefault(text_of(run.point), []).append(run)
        return tuple(summed(runs) for runs in found.values())

    @property
    def best(self) -> PointResult:
        """The point with the best mean; of equal ones the first.

        Raises:
            UmbelError: no point has one.
        """
        best = self._best(self.points)
        if best is None:
            why = next((run.error for run in self.runs if run.error), "it was interrupted before")
            raise UmbelError(f"no point of the sweep has a mean {self.metric}; the first reason: {why}")
        return best

    def _best(self, points: Sequence[PointResult]) -> PointResult | None:
        means = [(result.mean, result) for result in points if result.mean is not None]
        return (min if self.less_is_better else max)(means, key=lambda pair: pair[0])[1] if means else None

    def table(self) -> str:
        """One line per point: settings, mean and spread of the metric, runs, failed runs; the best has a star."""
        rows = self.cells()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    __str__ = table

    def cells(self) -> list[list[str]]:
        """The table's texts, titles first."""
        points = self.points
        names = list(dict.fromkeys(name for result in points for name in result.point))
        best = self._best(points)
        some = any(result.pruned for result in points)
        rows = [[*names, self.metric, "spread", "runs", "failed", *(["pruned"] if some else []), ""]]
        for result in points:
            settings = [text_of({name: result.point[name]}).partition("=")[2] for name in names]
            counts = [len(result.values), len(result.errors) - result.pruned, *([result.pruned] if some else [])]
            star = "*" if result is best else ""
            rows.append([*settings, _number(result.mean), _number(result.spread), *map(str, counts), star])
        return rows

    def to_pandas(self) -> Any:
        """A data frame with one row per run: settings, seed, the metric, error, rounds, seconds, run.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError("to_pandas needs pandas; install it with: pip install 'umbel[pandas]'") from None
        return pd.DataFrame([self._row(run) for run in self.runs])

    def _row(self, run: SweepRun) -> dict[str, Any]:
        last = max((record.round for record in run.rounds), default=0)
        ours = {"rounds": last, "seconds": run.seconds, "run": run.run}
        # A setting may have the name of a column of ours: it is what the reader asked for.
        return {**run.point, "seed": run.seed, self.metric: run.value, "error": run.error, **ours, **run.point}

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw one panel per setting that varies: the metric of each point over it, with its spread.

        Args:
            path: where to write the picture: .png, .svg or .pdf.

        Raises:
            ConfigError: matplotlib is not installed (extra `plot`), the path is no picture's, or no point has a mean.
        """
        from umbel.runtimes.sweep.plot import plot_sweep

        return plot_sweep(self, path)


Observer = Callable[[SweepRun], None]


def summed(runs: Sequence[SweepRun]) -> PointResult:
    """The runs of one point as one result."""
    return PointResult(
        runs[0].point,
        tuple(_known(run.value for run in runs)),
        tuple(_known(run.error for run in runs)),
        sum(run.pruned for run in runs),
    )


def _known(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
