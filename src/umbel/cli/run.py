"""`umbel run`: simulate an app."""

from __future__ import annotations

from pathlib import Path

import click

from umbel.cli.drive import Job, drive, json_out
from umbel.cli.options import opened, with_engine, with_json, with_set, with_store
from umbel.cli.settings import changed
from umbel.runtimes.app import load_app


@click.command()
@click.argument("app", type=Path, default=Path("."))
@with_set
@with_engine
@with_json
@with_store
@click.option("--name", help="The run's name in lists; default the app's.")
def run(
    app: Path,
    changes: tuple[str, ...],
    engine: str,
    workers: int | None,
    as_json: bool,
    path: Path,
    name: str | None,
) -> int:
    """Simulate the app in the folder APP (default: this one) and keep the run in the store.

    With --json each event of the log is one line, and the last line has "kind": "history".
    """
    with json_out(as_json) as out:
        found = load_app(app)
        settings = changed(found.config, changes)
        described = found.describe(settings)
        with opened(path, create=True) as store:
            return drive(
                Job(
                    app=found,
                    run=described,
                    settings=settings,
                    store=store,
                    path=path,
                    name=name or found.name,
                    engine=engine,
                    workers=workers,
                    out=out,
                )
            )
