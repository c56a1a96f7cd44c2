"""Drive one run of an app: progress on the way, a table at the end, a sentence when it breaks off."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO, final

import click

from umbel.cli.codes import FINE, INTERRUPTED, Stopped, code_of, text_of
from umbel.cli.options import DEFAULT_STORE, console
from umbel.observe.progress import LiveProgress, duration
from umbel.observe.table import rounds_table
from umbel.runtimes.app import App
from umbel.runtimes.cluster import Cluster
from umbel.runtimes.history import History, RoundRecord
from umbel.runtimes.progress import plain_progress
from umbel.runtimes.run import Run
from umbel.runtimes.session import Observer
from umbel.runtimes.simulate import simulate
from umbel.stores import Store


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """What to run and how to tell about it.

    `resume` is the id of a run to go on with, `cluster` the address of a Ray cluster.
    """

    app: App
    run: Run
    settings: Mapping[str, Any]
    store: Store
    path: Path
    name: str
    engine: str = "auto"
    workers: int | None = None
    cluster: str | None = None
    resume: str | None = None
    stop_when: Callable[[RoundRecord], bool] | None = None
    out: TextIO | None = None
    """Where JSON goes; None tells people instead."""


@final
@dataclass
class _Follower:
    """An observer that knows how far the run is."""

    run: str | None
    round: int = 0
    began: bool = field(default=False)

    def __call__(self, event: Mapping[str, Any]) -> None:
        if self.run is None:
            self.run = event["run"]
        if event["kind"] == "round":
            self.round = event["round"]
        self.began = True


def drive(job: Job) -> int:
    """Run it to its end; returns the exit code.

    Raises:
        Stopped: it was interrupted or failed after it had begun; what it says how to go on.
    """
    follower = _Follower(job.resume)
    try:
        with _observed(job) as observe:
            history = simulated(job, [follower, observe])
    except BaseException as error:
        if not follower.began:
            raise
        raise Stopped(code_of(error), _broken_off(error, job, follower)) from error
    _tell(history, job)
    if history.ended == "interrupted":
        raise Stopped(INTERRUPTED, _broken_off(KeyboardInterrupt(), job, follower))
    return FINE


def simulated(job: Job, observers: Sequence[Observer]) -> History:
    """Simulate it, and say nothing."""
    return simulate(
        job.app.client_fn,
        **job.run.arguments,
        stop_when=job.stop_when,
        engine=job.engine,
        workers=job.workers,
        cluster=None if job.cluster is None else Cluster(address=job.cluster),
        settings=job.settings,
        store=job.store,
        resume=job.resume,
        name=job.name,
        app=job.app.entry(job.settings),
        progress=False,
        observers=observers,
    )


@contextmanager
def _observed(job: Job) -> Generator[Observer]:
    if job.out is not None:
        yield _json_lines(job.out)
    else:
        with progress(job.run.config.num_rounds) as observe:
            yield observe


@contextmanager
def progress(num_rounds: int) -> Generator[Observer]:
    """An observer that shows a run's rounds: live on a terminal, line by line elsewhere."""
    if sys.stdout.isatty():
        with LiveProgress(num_rounds, console()) as live:
            yield live
    else:
        yield plain_progress()


def _json_lines(out: TextIO) -> Callable[[Mapping[str, Any]], None]:
    """An observer that prints what goes into the log; a line per client's progress would be too many."""

    def observe(event: Mapping[str, Any]) -> None:
        if event["kind"] != "progress":
            out.write(json.dumps(event) + "\n")
            out.flush()

    return observe


@contextmanager
def json_out(wanted: bool) -> Generator[TextIO | None]:
    """Standard output for JSON alone: what user code prints meanwhile goes to stderr."""
    if not wanted:
        yield None
        return
    out = sys.stdout
    with redirect_stdout(sys.stderr):
        yield out


def history_data(history: History) -> dict[str, Any]:
    """A history as plain data, without the model's values."""
    return {
        "run": history.run,
        "ended": history.ended,
        "digest": history.parameters.digest,
        "loss": history.loss,
        "metrics": dict(history.metrics),
        "warnings": list(history.warnings),
        "rounds": [asdict(record) for record in history.rounds],
    }


def _tell(history: History, job: Job) -> None:
    if job.out is not None:
        job.out.write(json.dumps({"kind": "history", **history_data(history)}) + "\n")
        return
    closing(history, _option(job.path))


def closing(history: History, option: str) -> None:
    """The table of a run's rounds, and what can be done with it.

    Args:
        option: what says where the run is kept, as on a command line.
    """
    terminal = console()
    terminal.print()
    terminal.print(rounds_table(history.rounds))
    terminal.print()
    if history.ended == "interrupted":
        return
    count = max((record.round for record in history.rounds), default=0)
    seconds = sum(record.seconds for record in history.rounds)
    click.echo(
        f"run {history.run}: {history.ended} after {count} round{'' if count == 1 else 's'} in {duration(seconds)}"
    )
    click.echo(f"look at it:      umbel show {history.run}{option}")
    click.echo(f"keep the model:  umbel export {history.run} model.safetensors{option}")


def _broken_off(error: BaseException, job: Job, follower: _Follower) -> str:
    again = f"umbel resume {follower.run}{_option(job.path)}"
    if isinstance(error, KeyboardInterrupt):
        done = f"{follower.round} of {job.run.config.num_rounds}"
        return f"interrupted after round {done}, which is kept; go on with: {again}"
    return f"{text_of(error)} (finished rounds are kept; go on with: {again})"


def _option(path: Path) -> str:
    return "" if path == DEFAULT_STORE else f" --store {path}"
