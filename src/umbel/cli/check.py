"""`umbel check`: warnings before it hurts."""

from __future__ import annotations

import json
from pathlib import Path

import click

from umbel.cli.advice import advise
from umbel.cli.codes import FAILED, FINE
from umbel.cli.drive import json_out
from umbel.cli.options import with_json, with_set
from umbel.cli.settings import changed
from umbel.runtimes.app import load_app


@click.command()
@click.argument("app", type=Path, default=Path("."))
@with_set
@with_json
def check(app: Path, changes: tuple[str, ...], as_json: bool) -> int:
    """Look for what will hurt in the app APP (default: this folder), without training.

    Exit code 0 if all is well, 1 if there are warnings, 2 if it cannot run at all.
    """
    with json_out(as_json) as out:
        found = load_app(app)
        settings = changed(found.config, changes)
        sentences = advise(found, found.describe(settings), settings)
        if out is not None:
            out.write(json.dumps({"app": found.name, "warnings": sentences}) + "\n")
        else:
            for text in sentences:
                click.echo(f"warning: {text}")
            if not sentences:
                click.echo(f"{found.name}: all is well")
    return FAILED if sentences else FINE
