"""`umbel run`: simulate an app."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from umbel.cli.codes import FINE
from umbel.cli.drive import Job, drive, json_out
from umbel.cli.follow import tell, watch
from umbel.cli.options import opened, with_engine, with_json, with_set, with_store
from umbel.cli.remote import Remote, remote, with_server
from umbel.cli.settings import changed
from umbel.runtimes.app import App, load_app


@click.command()
@click.argument("app", type=Path, default=Path("."))
@with_set
@with_engine
@with_json
@with_store
@with_server
@click.option("--name", help="The run's name in lists; default the app's.")
def run(
    app: Path,
    changes: tuple[str, ...],
    engine: str,
    workers: int | None,
    cluster: str | None,
    as_json: bool,
    path: Path,
    server: str | None,
    user: Path,
    insecure: bool,
    name: str | None,
) -> int:
    """Simulate the app in the folder APP (default: this one) and keep the run in the store.

    With --server the run is led there, over the nodes that are connected, and shown here; Ctrl-C leaves it running.

    With --json each event of the log is one line, and the last line has "kind": "history".
    """
    with json_out(as_json) as out:
        found = load_app(app)
        settings = changed(found.config, changes)
        if server is not None:
            return run_at(remote(server, user, insecure), found, settings, name or "", as_json=as_json)
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
                    cluster=cluster,
                    out=out,
                )
            )


def run_at(place: Remote, app: App, settings: Mapping[str, Any], name: str, *, as_json: bool) -> int:
    """Begin a run at a server and show it; to interrupt this leaves the run alone."""
    order = {"app": app.name, "digest": app.digest, "settings": dict(settings), "name": name}
    begun = place.post("/v1/runs", order)["run"]
    return shown_at(place, begun, as_json=as_json)


def shown_at(place: Remote, run: str, *, as_json: bool) -> int:
    """Show a run that is led at a server until it is over; to interrupt this leaves the run alone."""
    try:
        if as_json:
            return tell(place, run, follow=True, as_json=True)
        click.echo(f"run {run} at {place.address}")
        return watch(place, run)
    except KeyboardInterrupt:
        click.echo(f"run {run} goes on; look at it with: umbel logs -f {run}{place.option}", err=as_json)
        return FINE
