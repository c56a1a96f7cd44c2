"""`umbel audit`: whether a run's log is what was written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from umbel.cli.codes import FAILED, FINE
from umbel.cli.options import find_run, with_json
from umbel.cli.place import Place, with_place
from umbel.cli.statement import read_statement
from umbel.cli.trust import Trust, known, named, with_trust
from umbel.errors import ConfigError
from umbel.stores.abstract import Event
from umbel.stores.link import Verdict
from umbel.stores.link import verify as walk


@click.group()
def audit() -> None:
    """Look whether a run's log is whole and unchanged."""


@audit.command("verify")
@click.argument("run", default="last")
@click.option("--head", help="The digest of an event that was seen earlier, which must still be there.")
@click.option("--seen", type=Path, help="A tree head or a receipt of this run that was kept: its events must be there.")
@with_trust
@with_json
@with_place
def verify(
    run: str, head: str | None, seen: Path | None, key: str | None, ca: Path | None, as_json: bool, place: Place
) -> int:
    """Walk the log of RUN: each event names the one before it by its SHA-256, and tree heads are signed.

    Ends with 1 if one does not, if a signature is not good, or if --key or --ca is given and nothing is signed.
    """
    if head is not None and (len(head) != 64 or set(head) - set("0123456789abcdef")):
        raise ConfigError(f"--head is the SHA-256 of an event, 64 digits of 0-9 and a-f, got {head!r}")
    trust = named(key, ca)
    trust = trust if trust.named else known(place)
    check = trust.check()
    name, events = _log(run, place)
    verdict = walk(name, events, head=head, seen=None if seen is None else read_statement(seen), check=check)
    unsigned = verdict.tree_heads == 0 or check is None
    if as_json:
        click.echo(json.dumps({"run": name, **asdict(verdict), "signed_by": "" if unsigned else trust.whose}))
    elif verdict.problem is not None:
        click.echo(f"run {name}: {verdict.problem}")
    else:
        old = f"; the first {verdict.unlinked} have no links, an earlier version wrote them" if verdict.unlinked else ""
        click.echo(f"run {name}: {verdict.events} events, unbroken{old}")
        click.echo(_signed(verdict, trust, is_checked=check is not None))
        click.echo(f"the last one's digest is {verdict.head}; keep it, and give it as --head the next time")
    return FAILED if verdict.problem is not None or (trust.named and unsigned) else FINE


def _signed(verdict: Verdict, trust: Trust, *, is_checked: bool) -> str:
    if not verdict.tree_heads:
        return "nothing in it is signed (yet)"
    if not is_checked:
        return "its signatures were not looked at, as cryptography is not installed"
    later = verdict.events - verdict.covered - 1
    rest = f"; {later} came later and are not signed yet" if later else ""
    return f"the first {verdict.covered} are signed by {trust.whose or 'a key that nobody here knows'}{rest}"


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
        found = [event for event in store.events(info.id) if event.get("kind") != "waiting"]
    # From a server each says of which run it is; in the log it does not.
    return info.id, [{key: value for key, value in event.items() if key != "run"} for event in found]
