"""`umbel audit`: whether a run's log is what was written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from umbel.cli.codes import FAILED, FINE
from umbel.cli.options import find_run, with_json
from umbel.cli.place import Place, with_place
from umbel.errors import ConfigError
from umbel.stores.abstract import Event
from umbel.stores.link import verify as walk


@click.group()
def audit() -> None:
    """Look whether a run's log is whole and unchanged."""


@audit.command("verify")
@click.argument("run", default="last")
@click.option("--head", help="The digest of an event that was seen earlier, which must still be there.")
@with_json
@with_place
def verify(run: str, head: str | None, as_json: bool, place: Place) -> int:
    """Walk the log of RUN: each event names the one before it by its SHA-256. Ends with 1 if one does not."""
    if head is not None and (len(head) != 64 or set(head) - set("0123456789abcdef")):
        raise ConfigError(f"--head is the SHA-256 of an event, 64 digits of 0-9 and a-f, got {head!r}")
    name, events = _log(run, place)
    verdict = walk(name, events, head=head)
    if as_json:
        click.echo(json.dumps({"run": name, **asdict(verdict)}))
    elif verdict.problem is not None:
        click.echo(f"run {name}: {verdict.problem}")
    else:
        old = f"; the first {verdict.unlinked} have no links, an earlier version wrote them" if verdict.unlinked else ""
        click.echo(f"run {name}: {verdict.events} events, unbroken{old}")
        click.echo(f"the last one's digest is {verdict.head}; keep it, and give it as --head the next time")
    return FINE if verdict.problem is None else FAILED


@audit.command("export")
@click.argument("run", default="last")
@click.argument("file", type=Path)
@with_place
def export(run: str, file: Path, place: Place) -> None:
    """Write the log of RUN to FILE, an event a line, for an auditor who has no Umbel (see docs/audit.md)."""
    if file.exists():
        raise ConfigError(f"{file} is there already; choose another name")
    name, events = _log(run, place)
    try:
        file.write_text("".join(json.dumps({"run": name, **event}) + "\n" for event in events), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}; choose another place") from error
    click.echo(f"{file}: the log of run {name}, {len(events)} events")


def _log(run: str, place: Place) -> tuple[str, list[Event]]:
    with place.opened() as store:
        info = find_run(store, run)
        found = [event for event in store.log(info.id) if event.get("kind") != "waiting"]
    # From a server each says of which run it is; in the log it does not.
    return info.id, [{key: value for key, value in event.items() if key != "run"} for event in found]
