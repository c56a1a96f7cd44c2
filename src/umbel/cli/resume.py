"""`umbel resume`: go on with a run that broke off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from umbel.cli.drive import Job, drive, json_out
from umbel.cli.options import find_run, opened, with_engine, with_json, with_set, with_store
from umbel.cli.place import RemoteRuns
from umbel.cli.remote import Remote, remote, with_server
from umbel.cli.run import shown_at
from umbel.cli.settings import changed
from umbel.errors import AppError, ConfigError
from umbel.runtimes.app import App, load_app
from umbel.runtimes.run import Run
from umbel.stores import RunInfo


@click.command()
@click.argument("run")
@with_set
@with_engine
@with_json
@with_store
@with_server
@click.option("--app", "place", type=Path, help="Where the app is now, if it is not where it was.")
@click.option("--force", is_flag=True, help="Go on although the app's files have changed.")
def resume(
    run: str,
    changes: tuple[str, ...],
    engine: str,
    workers: int | None,
    cluster: str | None,
    as_json: bool,
    path: Path,
    server: str | None,
    user: Path,
    insecure: bool,
    place: Path | None,
    force: bool,
) -> int:
    """Go on with RUN (its id, the beginning of it, or "last") after its last finished round.

    It ends in the same model as if it had never stopped. A finished run goes on with more rounds:
    --set num_rounds=50.
    """
    if server is not None:
        return resume_at(remote(server, user, insecure), run, changes, as_json=as_json)
    with json_out(as_json) as out, opened(path) as store:
        info = find_run(store, run)
        entry = entry_of(info)
        found = loaded(info, entry, place, force=force)
        settings = changed(entry["settings"], changes)
        described = found.describe(settings)
        _check_unfinished(info, described)
        return drive(
            Job(
                app=found,
                run=described,
                settings=settings,
                store=store,
                path=path,
                name=info.name,
                engine=engine,
                workers=workers,
                cluster=cluster,
                resume=info.id,
                out=out,
            )
        )


def entry_of(info: RunInfo, instead: str | None = None) -> Mapping[str, Any]:
    """What the plan of a run keeps of its app.

    Raises:
        AppError: it has none; `instead` says what can be done, by default that it can go on from Python.
    """
    entry = info.plan.get("app")
    instead = instead or f'go on there with fl.simulate(..., store=..., resume="{info.id}")'
    if entry is None:
        raise AppError(f"run {info.id} was started from Python and not from an app; {instead}")
    return entry


def loaded(
    info: RunInfo,
    entry: Mapping[str, Any],
    place: Path | None,
    *,
    force: bool = False,
    otherwise: str = "undo the change, start a new run, or go on all the same with --force",
) -> App:
    """The app of a run, as it was.

    Raises:
        AppError: it is not there, or has changed; `otherwise` says what can be done then.
    """
    try:
        found = load_app(place or entry["path"])
    except AppError as error:
        raise AppError(f"{error} (run {info.id} was started with the app {entry['path']}; --app names it)") from error
    if found.digest != entry["digest"] and not force:
        raise AppError(
            f"the app {found.name} has changed since run {info.id} was started, so it would not be the same run; "
            f"{otherwise}"
        )
    return found


def _check_unfinished(info: RunInfo, described: Run) -> None:
    planned = info.plan["config"]["num_rounds"]
    if info.status == "finished" and described.config.num_rounds <= planned:
        raise ConfigError(
            f"run {info.id} is finished and has nothing left to do; give it more rounds than {planned} "
            "(--set num_rounds=… if the app has this setting) or start a new run"
        )


def resume_at(place: Remote, run: str, changes: tuple[str, ...], *, as_json: bool) -> int:
    """Go on with a run at a server, and show it."""
    info = find_run(RemoteRuns(place), run)
    settings = changed(entry_of(info)["settings"], changes)
    begun = place.post(f"/v1/runs/{info.id}/resume", {"settings": settings})["run"]
    return shown_at(place, begun, as_json=as_json)
