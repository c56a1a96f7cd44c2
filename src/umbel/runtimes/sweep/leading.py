"""Lead a sweep: read the runs that are finished, go on with the one that is not, begin the rest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from umbel.arrays import Arrays
from umbel.errors import ConfigError, StoreError, UmbelError
from umbel.runtimes.history import History, RoundRecord
from umbel.runtimes.keeping import LONGEST_NAME
from umbel.runtimes.sweep.result import Observer, Sweep, SweepRun, summed
from umbel.runtimes.sweep.search import Search
from umbel.runtimes.sweep.space import Point, text_of
from umbel.runtimes.turn import sentence
from umbel.stores import RunInfo, RunReader

Play = Callable[[Point, int, "dict[str, Any]"], History]
"""`(point, seed, kept) → History`: simulate the point with `kept` (store, resume, name) as arguments of `simulate`."""


class _Interrupted(Exception):
    """A run ended with Ctrl-C."""


@final
@dataclass(frozen=True)
class _Watch:
    """Tells a search each round of a run, and the run whether it is to stop.

    Args:
        before: rounds of the point's runs with other seeds.
    """

    search: Search
    metric: str
    before: int

    def __call__(self, record: RoundRecord) -> bool:
        value = record.loss if self.metric == "loss" else record.metrics.get(self.metric)
        return value is not None and self.search.prunes(self.before + record.round, value)

    def replay(self, records: Iterable[RoundRecord]) -> None:
        """Tell what was measured before: the search is then where it was when the run had got so far."""
        for record in records:
            if record.round > 0:
                self(record)


@final
@dataclass(frozen=True, kw_only=True)
class Leader:
    """What all runs of a sweep share.

    Args:
        play: simulates one point with one seed.
        seeds: the seeds of every point.
        metric, less_is_better: what is compared.
        store: where runs are kept.
        name: what the runs' names begin with.
        observers: called with every run.
        prunes: whether the search may break runs off; `play` is then given `stop_when`, too.
    """

    play: Play
    seeds: Sequence[int]
    metric: str
    less_is_better: bool
    store: RunReader
    name: str
    observers: Sequence[Observer] = ()
    prunes: bool = False

    def lead(self, search: Search) -> Sweep:
        """Every point of the search, with every seed.

        Raises:
            ConfigError: the metric is none that runs measure, or `play` leaves out what it is given.
            StoreError: runs cannot be kept.
        """
        known = named(self.store)
        runs: dict[str, SweepRun] = {}
        ended = "finished"
        try:
            for trial in range(search.count):
                self._trial(search, search.ask(trial), known, runs)
        except (KeyboardInterrupt, _Interrupted):
            ended = "interrupted"
        return Sweep(metric=self.metric, less_is_better=self.less_is_better, runs=tuple(runs.values()), ended=ended)

    def _trial(self, search: Search, point: Point, known: dict[str, RunInfo], runs: dict[str, SweepRun]) -> None:
        """One point with its seeds, until one of them is pruned."""
        found: list[SweepRun] = []
        for seed in self.seeds:
            # Steps count the rounds over all seeds, so that equal steps of two points compare.
            before = sum(run.last_round for run in found)
            found.append(self._once(point, seed, known, runs, _Watch(search, self.metric, before)))
            if found[-1].pruned:
                search.tell_pruned()
                return
        search.tell(summed(found).mean)

    def _once(
        self, point: Point, seed: int, known: dict[str, RunInfo], runs: dict[str, SweepRun], watch: _Watch
    ) -> SweepRun:
        """The run, or what it was when the search asked for the same point before."""
        name = name_of(self.name, point, seed)
        if name in runs and self.prunes:
            watch.replay(runs[name].rounds)
        if name not in runs:
            run = self._run(point, seed, name, known.get(name), watch)
            runs[name] = run
            for observe in self.observers:
                observe(run)
        return runs[name]

    def _run(self, point: Point, seed: int, name: str, info: RunInfo | None, watch: _Watch) -> SweepRun:
        if info is not None and (info.status == "finished" or self.prunes):
            history = History.of(self.store.log(info.id), Arrays.of({}), info.id, info.plan)
            if self.prunes:
                watch.replay(history.rounds)
            # What another sweep of this name pruned goes on where nothing is pruned.
            if info.status == "finished" and (self.prunes or history.ended != "stopped"):
                return self._measured(point, seed, history, kept=True)
        given: dict[str, Any] = {"store": self.store, "resume": None if info is None else info.id, "name": name}
        if self.prunes:
            given["stop_when"] = watch
        try:
            history = self.play(point, seed, given)
        except StoreError:
            raise
        except Exception as error:
            why = str(error) if isinstance(error, UmbelError) else sentence(error)
            return SweepRun(point=point, seed=seed, value=None, error=why, run=info.id if info else "")
        self._check(history, name)
        if history.ended == "interrupted":
            raise _Interrupted
        return self._measured(point, seed, history, kept=False)

    def _check(self, history: object, name: str) -> None:
        if not isinstance(history, History):
            raise ConfigError(f"run() must return the History of fl.simulate, got a {type(history).__name__}")
        info = self.store.find(history.run)
        if info is None or info.name != name:
            raise ConfigError(
                "run() made a run that the sweep cannot find again; hand on to fl.simulate what run() is given as "
                "store, resume and name: def run(seed, lr, **kept): return fl.simulate(..., **kept)"
            )

    def _measured(self, point: Point, seed: int, history: History, *, kept: bool) -> SweepRun:
        series = dict(history.series(self.metric))
        last = max((record.round for record in history.rounds), default=0)
        value, error = series.get(last), None
        pruned = self.prunes and history.ended == "stopped"
        if pruned:
            value, error = None, f"pruned after round {last}, where {self.metric} was {series.get(last, math.nan):.4g}"
        elif value is None or not math.isfinite(value):
            if not series:
                self._check_metric(history)
            value, error = None, f"{self.metric} was {value or 'not measured'} in round {last}, the last"
        return SweepRun(
            point=point,
            seed=seed,
            value=value,
            error=error,
            rounds=history.rounds,
            run=history.run,
            kept=kept,
            pruned=pruned,
        )

    def _check_metric(self, history: History) -> None:
        """Refuse a metric that a run without any trouble did not measure."""
        if history.warnings or any(record.failures for record in history.rounds):
            return
        losses = ["loss"] if history.loss is not None else []
        names = [*losses, *sorted({name for record in history.rounds for name in record.metrics})]
        raise ConfigError(
            f"metric {self.metric!r} is none that the runs measure; they measure {', '.join(names) or 'nothing'}: "
            f"{'name one of these' if names else 'give clients an evaluate'} (the run is kept)"
        )


def named(store: RunReader) -> dict[str, RunInfo]:
    """The runs in the store by name: of several the newest, of these one that is finished."""
    found: dict[str, RunInfo] = {}
    for info in store.runs():
        before = found.get(info.name)
        if before is None or before.status != "finished" or info.status == "finished":
            found[info.name] = info
    return found


def name_of(sweep: str, point: Point, seed: int) -> str:
    """The name of a run, which tells its point and is found again by it.

    Example:
        >>> name_of("sweep", {"mu": 0.1, "lr": 1.0}, 2)
        'sweep lr=1.0 mu=0.1 seed=2'
    """
    text = " ".join(filter(None, (sweep, text_of(dict(sorted(point.items()))), f"seed={seed}")))
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[: LONGEST_NAME - 18]}… {hashlib.sha256(text.encode()).hexdigest()[:16]}"
