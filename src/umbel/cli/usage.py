"""`umbel usage`: what runs at a server have used, by day."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click

from umbel.cli.options import with_json
from umbel.cli.remote import remote, with_server
from umbel.cli.server import with_folder
from umbel.errors import ConfigError


@click.command()
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for spreadsheets.")
@click.option("--store", metavar="URL", help="As with umbel server.")
@with_json
@with_server
@with_folder
def usage(
    as_csv: bool, store: str | None, as_json: bool, server: str | None, user: Path, insecure: bool, folder: Path
) -> None:
    """Rounds, bytes and node-seconds of each run and day (UTC).

    With --server those of one's own federation; without, those of all, from the server's folder.
    """
    from umbel.runtimes.server.usage import COLUMNS

    if server is not None:
        rows: list[dict[str, Any]] = remote(server, user, insecure).get("/v1/usage")["usage"]
    else:
        rows = _rows(folder, store)
    if as_json:
        click.echo(json.dumps(rows))
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([row[key] for key in COLUMNS] for row in rows)
    lines = text.getvalue().splitlines()
    for line in lines:
        click.echo(line if as_csv else "  ".join(f"{cell:14}" for cell in next(csv.reader([line]))).rstrip())


def _rows(folder: Path, url: str | None) -> list[dict[str, Any]]:
    from umbel.runtimes.server.usage import table
    from umbel.stores import store_for

    if url is None and not (folder / "runs.db").exists():
        raise ConfigError(f"{folder} is no server's folder; start umbel server once, or name the folder")
    store = store_for(url or folder / "runs.db")
    try:
        return table(store)
    finally:
        store.close()
