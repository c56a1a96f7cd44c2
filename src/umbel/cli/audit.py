"""`umbel audit`: whether a run's log is what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from umbel.audit import proof, receipt
from umbel.cli.codes import FAILED, FINE
from umbel.cli.options import find_run, with_json, with_store
from umbel.cli.place import Place, with_place
from umbel.cli.statement import Statement, read_statements
from umbel.cli.trust import Trust, all_known, beside, known, named, with_trust
from umbel.errors import ConfigError, WireError
from umbel.runtimes import checkpoint
from umbel.runtimes.privacy_report.report import KIND as REPORT
from umbel.runtimes.replay import replay as replayed
from umbel.stores import RunReader, link
from umbel.stores.abstract import Event
from umbel.stores.link import Verdict
from umbel.stores.link import verify as walk


@click.group()
def audit() -> None:
    """Look whether a run's log is whole and unchanged, and prove what is in it."""


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
    kept = [] if seen is None else read_statements(seen)
    if any(one.kind == REPORT for one in kept):
        raise ConfigError(
            f"--seen is a tree head or a receipt, and {seen} is a report on privacy; umbel audit check looks at that"
        )
    verdict = _walked(name, events, head, kept, check)
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


def _walked(
    run: str, events: list[Event], head: str | None, kept: list[Statement], check: link.Check | None
) -> Verdict:
    """The verdict on a log: the first that has a problem, for all that was kept of it."""
    verdict = walk(run, events, head=head, check=check)
    for one in kept:
        if verdict.problem is None:
            verdict = walk(run, events, seen=one.signed, check=check)
        if verdict.problem is None and one.kind == receipt.KIND:
            wrong = receipt.why_not_in(one.data, events)
            verdict = verdict if wrong is None else replace(verdict, problem=f"{wrong}: the log was written anew")
    return verdict


def _signed(verdict: Verdict, trust: Trust, *, is_checked: bool) -> str:
    if not verdict.tree_heads:
        return "nothing in it is signed (yet)"
    if not is_checked:
        return "its signatures were not looked at, as cryptography is not installed"
    later = verdict.events - verdict.covered - 1
    rest = f"; {later} came later and are not signed yet" if later else ""
    return f"the first {verdict.covered} are signed by {trust.whose or 'a key that nobody here knows'}{rest}"


@audit.command("prove")
@click.argument("run", default="last")
@click.option("--node", required=True, help="Whose answers.")
@with_place
def prove(run: str, node: str, place: Place) -> int:
    """Print a proof, a line of JSON, for each round of RUN that has an answer of the node.

    Each holds the round's whole event, with the names of all who took part. Ends with 1 if there is none.
    """
    name, events = _log(run, place)
    found = list(proof.proofs(name, events, node))
    for one in found:
        click.echo(json.dumps(one))
    waiting = proof.unsigned(events, node)
    if waiting:
        rest = f"{waiting} rounds with an answer of its are not signed yet"
        click.echo(f"run {name}: {len(found)} proofs for {node}; {rest}", err=True)
    elif not found:
        click.echo(f"run {name}: the log lists no answer of {node}; it lists those of real nodes only", err=True)
    return FINE if found else FAILED


@audit.command("check")
@click.argument("files", nargs=-1, required=True, type=Path)
@with_trust
@with_json
@with_store
def check(files: tuple[Path, ...], key: str | None, ca: Path | None, as_json: bool, path: Path) -> int:
    """Check receipts, proofs, tree heads and reports in FILES, without a log and without a server.

    Two of one run and size with different roots show that who signed them told two stories. Ends with 1 if a
    signature is not good, a proof shows nothing, or two do not go together.
    """
    trust = named(key, ca)
    code, good = FINE, list[Mapping[str, Any]]()
    for file in files:
        for one in read_statements(file):
            here = trust if trust.named else _signer(one, file, path)
            problem = one.problem(here)
            good += [one.signed] if problem is None and one.kind != REPORT else []
            code = code if problem is None else FAILED
            if as_json:
                click.echo(json.dumps({"file": str(file), "problem": problem, "signed_by": here.whose, **one.data}))
            else:
                by = f"signed by {here.whose or 'a key that nobody here knows'}"
                click.echo(f"{file}: {one.text}: {by if problem is None else f'this {problem}'}")
    for first, second in receipt.told_apart(good):
        code = FAILED
        click.echo(
            f"two stories were told of the first {first['size']} events of run {first['run']}: the roots "
            f"{first['root']} and {second['root']} are both signed, by {first['key']} and {second['key']}",
            err=as_json,
        )
    return code


def _signer(one: Statement, file: Path, path: Path) -> Trust:
    """Whose signature a statement may have, where nobody was named: in a node's folder its server's, else one of those
    that are known beside the store, if it is theirs. What others signed is looked at all the same."""
    here = beside(file)
    ours = [] if here.ca_pem is not None else all_known(Place(path, None, Path(), False))
    return next((trust for trust in ours if trust.check() is not None and one.problem(trust) is None), here)


@audit.command("replay")
@click.argument("run", default="last")
@with_json
@with_place
def replay(run: str, as_json: bool, place: Place) -> int:
    """Hold the log of RUN against its plan and its kept checkpoints: models, cohorts, participants, the end.

    Says what could not be compared, and why. Ends with 1 if something does not fit.
    """
    name, events = _log(run, place)
    verdict = walk(name, events, check=known(place).check())
    with place.opened() as store:
        info = find_run(store, name)
        kept = {number: _model(store, name, number) for number in store.checkpoints(name)}
    found = replayed(info.plan, events, {number: digest for number, digest in kept.items() if digest is not None})
    problems = [*([verdict.problem] if verdict.problem else []), *found.problems]
    problems += [f"the checkpoint of round {number} cannot be read" for number in kept if kept[number] is None]
    if as_json:
        click.echo(json.dumps({"run": name, **asdict(found), "problems": problems}))
        return FAILED if problems else FINE
    click.echo(f"run {name}: {'all that was compared fits' if not problems else 'something does not fit'}")
    for what, count in {"events of an unbroken chain": verdict.events, **found.checked}.items():
        click.echo(f"compared: {what}: {count}")
    for text in problems:
        click.echo(f"does not fit: {text}")
    for text in found.unchecked:
        click.echo(f"not compared: {text}")
    return FAILED if problems else FINE


def _model(store: RunReader, run: str, round: int) -> str | None:
    """The digest of the model in a checkpoint; None if it is damaged."""
    try:
        return checkpoint.read(store.checkpoint(run, round))[0].params.digest
    except WireError:
        return None


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
