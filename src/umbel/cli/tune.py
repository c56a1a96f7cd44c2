"""`umbel tune`: simulate an app once per point of seeds × settings, and compare."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO, final

import click

from umbel.cli.choices import choices
from umbel.cli.codes import FINE, INTERRUPTED, Stopped
from umbel.cli.drive import Job, json_out, simulated
from umbel.cli.options import console, opened, with_engine, with_json, with_store
from umbel.cli.place import RemoteRuns
from umbel.cli.remote import remote, with_server
from umbel.cli.tune_at import Led, check_at_server
from umbel.errors import AppError, ConfigError
from umbel.observe.table import sweep_table
from umbel.runtimes.app import App, load_app
from umbel.runtimes.choose import choose
from umbel.runtimes.cluster import Cluster
from umbel.runtimes.history import History
from umbel.runtimes.sweep import PointResult, Range, Sweep, SweepRun
from umbel.runtimes.sweep import space as spaces
from umbel.runtimes.sweep.leading import Leader, named
from umbel.runtimes.sweep.result import Observer
from umbel.runtimes.sweep.search import SEARCHES, search_for
from umbel.runtimes.sweep.space import Point
from umbel.runtimes.sweep.sweep import check_name, goal, plain_lines, seeds_of
from umbel.stores import RunReader, Store


@click.command()
@click.argument("app", type=Path, default=Path("."))
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUES",
    help="What to try for one of the app's settings: values with commas (lr=0.01,0.1), or with --trials a range "
    "(lr=0.01:1, evenly in the logarithm lr=0.001:1:log). Repeatable.",
)
@click.option("--seeds", type=int, default=1, show_default=True, help="Runs per point, with the seeds 0, 1, ….")
@click.option("--trials", type=int, help="How many points to try; default all that the values of --set make.")
@click.option("--search", help=f"Who names points: {', '.join(SEARCHES)}; default grid, and optuna with --trials.")
@click.option(
    "--pruner", type=click.Choice(["median", "halving"]), help="Break off points that do worse than others did."
)
@click.option("--metric", help="What to compare, after the last round; default the app's monitor, which is loss.")
@click.option("--mode", help="min or max: which of the metric is better; default by its name.")
@click.option("--plot", "picture", type=Path, help="Draw the metric over each setting into this .png, .svg or .pdf.")
@click.option("--name", help="What the runs' names begin with; default the app's and \"sweep\".")
@click.option("--force", is_flag=True, help="Go on although the app's files have changed.")
@with_engine
@with_json
@with_store
@with_server
def tune(
    app: Path,
    changes: tuple[str, ...],
    seeds: int,
    trials: int | None,
    search: str | None,
    pruner: str | None,
    metric: str | None,
    mode: str | None,
    picture: Path | None,
    name: str | None,
    force: bool,
    engine: str,
    workers: int | None,
    cluster: str | None,
    as_json: bool,
    path: Path,
    server: str | None,
    user: Path,
    insecure: bool,
) -> int:
    """Simulate the app in the folder APP (default: this one) once per combination of settings and seed, and compare.

    Every run is kept in the store. The same command again goes on where it broke off: finished runs are read.

    With --server the runs are led there, one after the other, over the nodes that are connected, and kept there. Ctrl-C
    leaves the one under way running, and the same command again waits for it.

    With --json each run is one line, and the last line has "kind": "sweep".
    """
    with json_out(as_json) as out:
        found = load_app(app)
        space = spaces.checked(choices(found.config, changes))
        _check_ranges(space, trials)
        described = found.describe(found.config)
        config = described.config
        if server is not None:
            check_at_server(found, seeds, pruner)
        else:
            # Refused here and not as a failure of each run.
            choose(
                engine, workers, config, described.num_clients, None if cluster is None else Cluster(address=cluster)
            )
        metric, mode = metric or config.monitor, mode or ("auto" if metric else config.mode)
        less = goal(metric, mode)
        chosen, every = search_for(space, search, trials, 0, less, pruner), seeds_of(seeds)
        _check_picture(picture)
        name = name or f"{found.name} sweep"
        check_name(name)
        given: dict[str, Any] = {
            "seeds": every,
            "metric": metric,
            "less_is_better": less,
            "name": name,
            "prunes": pruner is not None,
            "observers": [plain_lines(metric, chosen.count * len(every)) if out is None else _json_lines(out)],
        }
        if server is not None:
            place = remote(server, user, insecure)
            runs = RemoteRuns(place)
            _check_unchanged(runs, name, found, force=force)
            return _tell(
                Leader(play=Led(found, place), store=runs, **given).lead(chosen), app, picture, out, place.option
            )
        with opened(path, create=True) as store:
            _check_unchanged(store, name, found, force=force)
            play = _Simulated(found, store, path, engine, workers, cluster)
            return _tell(Leader(play=play, store=store, **given).lead(chosen), app, picture, out)


@final
@dataclass(frozen=True)
class _Simulated:
    """How one point of an app is simulated: the seed is the run's, and the app's setting of that name if it has one."""

    app: App
    store: Store
    path: Path
    engine: str
    workers: int | None
    cluster: str | None

    def __call__(self, point: Point, seed: int, kept: Mapping[str, Any]) -> History:
        settings = {**self.app.config, **point, **({"seed": seed} if "seed" in self.app.config else {})}
        run = self.app.describe(settings)
        job = Job(
            app=self.app,
            run=replace(run, config=replace(run.config, seed=seed)),
            settings=settings,
            store=self.store,
            path=self.path,
            name=kept["name"],
            engine=self.engine,
            workers=self.workers,
            cluster=self.cluster,
            resume=kept["resume"],
            stop_when=kept.get("stop_when"),
        )
        return simulated(job, [])


def _check_ranges(space: Mapping[str, object], trials: int | None) -> None:
    endless = next((key for key, values in space.items() if isinstance(values, Range)), None)
    if endless is not None and trials is None:
        raise ConfigError(f"{endless} is a range, of which a grid cannot try all; add --trials 50, or list its values")


def _check_picture(picture: Path | None) -> None:
    if picture is not None:
        from umbel.runtimes.sweep.plot import check_drawable

        check_drawable(picture)


def _check_unchanged(store: RunReader, name: str, app: App, *, force: bool) -> None:
    """Results of another version of the app must not stand in one table with those of this one."""
    if force:
        return
    for run, info in named(store).items():
        entry: Mapping[str, Any] = info.plan.get("app") or {}
        if run.startswith(f"{name} ") and " seed=" in run and entry.get("digest") != app.digest:
            raise AppError(
                f"the app {app.name} has changed since run {info.id} of the sweep {name!r}, so they would not compare; "
                "undo the change, begin a new sweep with --name, or go on all the same with --force"
            )


def _json_lines(out: TextIO) -> Observer:
    def observe(run: SweepRun) -> None:
        last = max((record.round for record in run.rounds), default=0)
        told = {"point": dict(run.point), "seed": run.seed, "value": run.value, "error": run.error, "run": run.run}
        told["pruned"] = run.pruned
        out.write(json.dumps({"kind": "run", **told, "rounds": last, "seconds": run.seconds, "kept": run.kept}) + "\n")
        out.flush()

    return observe


def _tell(sweep: Sweep, app: Path, picture: Path | None, out: TextIO | None, place: str = "") -> int:
    if out is not None:
        out.write(json.dumps({"kind": "sweep", **_data(sweep)}) + "\n")
    elif sweep.runs:
        console().print()
        console().print(sweep_table(sweep))
    if sweep.ended == "interrupted":
        count = len(sweep.runs)
        raise Stopped(
            INTERRUPTED,
            f"interrupted after {count} run{'' if count == 1 else 's'}, which are kept; the same command goes on",
        )
    best = sweep.best
    if picture is not None:
        sweep.plot(picture)
    if out is None:
        options = "".join(f" --set {_quoted(key, value)}" for key, value in best.point.items())
        click.echo(f"\nthe best:  umbel run {app}{options}{place}")
    return FINE


def _quoted(key: str, value: object) -> str:
    """A setting as a shell takes it."""
    return shlex.quote(f"{key}={value if isinstance(value, str) else json.dumps(value)}")


def _data(sweep: Sweep) -> dict[str, Any]:
    return {
        "metric": sweep.metric,
        "less_is_better": sweep.less_is_better,
        "ended": sweep.ended,
        "points": [_point(result) for result in sweep.points],
    }


def _point(result: PointResult) -> dict[str, Any]:
    return {
        "point": dict(result.point),
        "mean": result.mean,
        "spread": result.spread,
        "values": list(result.values),
        "errors": list(result.errors),
    }
