"""`sweep`: one simulation per point of seeds × hyper-parameters."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
from umbel.message import require
from umbel.runtimes import keeping
from umbel.runtimes.history import History
from umbel.runtimes.session import check_observers
from umbel.runtimes.sweep import space as spaces
from umbel.runtimes.sweep.leading import Leader
from umbel.runtimes.sweep.result import Observer, Sweep, SweepRun
from umbel.runtimes.sweep.search import search_for
from umbel.runtimes.sweep.space import Point, Space, text_of
from umbel.stores import Store

GIVEN = ("seed", "store", "resume", "name")
LONGEST_NAME = 80
LARGEST = 2**63 - 1


def sweep(
    run: Callable[..., History],
    space: Space,
    *,
    seeds: int | Sequence[int] = 1,
    trials: int | None = None,
    search: str | None = None,
    search_seed: int = 0,
    pruner: Any = None,
    metric: str = "loss",
    mode: str = "auto",
    store: Store | str | Path | None = None,
    name: str = "sweep",
    progress: bool | None = None,
    observers: Sequence[Observer] = (),
) -> Sweep:
    """Simulate every point of a grid, or those that a search asks for, each with every seed.

    Each run is kept in `store` under a name that tells its point. A sweep that broke off, started again in the same
    way, reads the runs that are finished and goes on with the one that was under way; it ends as if it had never
    stopped. More values or seeds may be added. Runs are known by their names alone: after a change of what `run` does,
    give the sweep another `name`. A point that fails is a row with its reason.

    Args:
        run: `run(seed, **settings, **kept) → History` calls `simulate(..., **kept)`; `kept` are store, resume and name.
        space: setting → list of plain values, or a `Range` of numbers (not for a grid).
        seeds: how many seeds from 0 on, at least 1, or the seeds. Every point gets the same ones.
        trials: how many points to try; None tries all of the grid.
        search: "grid", "random" or "optuna" (extra `tune`); None is the grid, and Optuna with `trials`.
        search_seed: root of the search's own choice of points.
        pruner: breaks off points that do worse than others did by then: "median", "halving" or one of
            `optuna.pruners`, for an Optuna search; `run` is then given `stop_when`, too, for `simulate`.
        metric: "loss" or the name of a metric, taken from the last round.
        mode: "min" or "max", which of it is better; "auto" takes "min" for names with loss or error in them.
        store: a path of an SQLite file, or a store. None keeps runs in memory, where no sweep can go on.
        name: what the runs' names begin with.
        progress: print a line per run; None does so only on a terminal.
        observers: called with every `SweepRun`.

    Returns:
        The sweep; after Ctrl-C with the finished runs and `ended == "interrupted"`.

    Raises:
        ConfigError: an argument is wrong, or no run measures `metric`.
        StoreError: runs cannot be kept.

    Example:
        >>> import umbel as fl
        >>> from umbel.testing import Quadratics
        >>> def run(seed, lr, **kept):
        ...     toy = Quadratics(lr=lr)
        ...     return fl.simulate(toy.client, 4, config=fl.ServerConfig(seed=seed), engine="serial", **kept)
        >>> found = fl.sweep(run, {"lr": [0.01, 0.1]}, progress=False)
        >>> found.best.point
        {'lr': 0.1}
    """
    checked = spaces.checked(space)
    _check_run(run, checked, GIVEN if pruner is None else (*GIVEN, "stop_when"))
    less = goal(metric, mode)
    chosen = search_for(checked, search, trials, search_seed, less, pruner)
    every = seeds_of(seeds)
    check_name(name)
    check_observers(observers)
    wanted = bool(sys.stdout and sys.stdout.isatty()) if progress is None else progress
    kept = keeping.store_at(store)

    def play(point: Point, seed: int, given: dict[str, Any]) -> History:
        return run(seed=seed, **point, **given)

    try:
        lines = [plain_lines(metric, chosen.count * len(every))] if wanted else []
        leader = Leader(
            play=play,
            seeds=every,
            metric=metric,
            less_is_better=less,
            store=kept,
            name=name,
            observers=[*observers, *lines],
            prunes=pruner is not None,
        )
        return leader.lead(chosen)
    finally:
        if kept is not store:
            kept.close()


def goal(metric: str, mode: str) -> bool:
    """Whether less of the metric is better; as for a run's own `monitor`.

    Raises:
        ConfigError: it is no name, or the mode is none.
    """
    require(isinstance(metric, str) and metric != "", f"metric must be a name such as 'loss', got {metric!r}")  # pyright: ignore[reportUnnecessaryIsInstance]
    require(mode in ("auto", "min", "max"), f"mode must be 'auto', 'min' or 'max', got {mode!r}")
    return ServerConfig(monitor=metric, mode=mode).less_is_better  # type: ignore[arg-type]


def seeds_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds that the argument means.

    Raises:
        ConfigError: there is none, one is there twice, or one is no seed.

    Example:
        >>> seeds_of(3)
        (0, 1, 2)
    """
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        require(seeds >= 1, f"seeds must be at least 1, or a list of seeds, got {seeds}")
        return tuple(range(seeds))
    plain = isinstance(seeds, (list, tuple, range)) and all(type(s) is int and 0 <= s <= LARGEST for s in seeds)
    require(plain and len(set(seeds)) == len(seeds) > 0, f"seeds must be a number or distinct seeds, got {seeds!r}")  # type: ignore[arg-type]
    return tuple(seeds)  # type: ignore[arg-type]


def plain_lines(metric: str, count: int) -> Observer:
    """An observer that prints a line per run."""
    done = 0

    def observe(run: SweepRun) -> None:
        nonlocal done
        done += 1
        sys.stdout.write(f"{line(run, metric, done, count)}\n")

    return observe


def line(run: SweepRun, metric: str, done: int, count: int) -> str:
    """One run in one line."""
    said = f"{metric} {run.value:.4g}" if run.error is None else run.error if run.pruned else f"failed: {run.error}"
    settings = text_of({**run.point, "seed": run.seed})
    return f"{done}/{count}  {settings}: {said}{' (kept from before)' if run.kept else ''}"


def check_name(name: object) -> None:
    """Refuse what cannot be the beginning of runs' names."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConfigError(f"name must be 1 to {LONGEST_NAME} printable characters, got {name!r}")


def _check_run(run: object, space: Space, given: Sequence[str]) -> None:
    """Refuse, before anything runs, a function that cannot be called as it will be."""
    if not callable(run):
        raise ConfigError(f"run must be a function that simulates one point, got a {type(run).__name__}")
    own = next((name for name in space if name in given), None)
    if own is not None:
        raise ConfigError(
            f"{own!r} cannot be a setting: the sweep itself gives it to run(); call yours by another name"
        )
    try:
        inspect.signature(run).bind(**dict.fromkeys([*given, *space]))
    except TypeError as error:
        shape = ", ".join(["seed", *space])
        raise ConfigError(
            f"run() cannot be called with the space's settings: {error}; write def run({shape}, **kept) and hand "
            "**kept on to fl.simulate"
        ) from None
    except ValueError:
        return  # a callable that does not tell its arguments
