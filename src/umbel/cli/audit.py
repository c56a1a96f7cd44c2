"""`umbel audit`: whether a run's log is what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from umbel.audit import proof, receipt
from umbel.audit.whole import looked
from umbel.cli.codes import FAILED, FINE
from umbel.cli.options import find_run, legible, with_json, with_store
from umbel.cli.place import Place, with_place
from umbel.cli.statement import Statement, read_statements
from umbel.cli.trust import Trust, all_known, beside, known, named, with_trust
from umbel.errors import ConfigError, WireError
from umbel.runtimes import checkpoint
from umbel.runtimes.privacy_report.report import KIND as REPORT
from umbel.runtimes.replay import replay as replayed
from umbel.stores import RunInfo, RunReader
from umbel.stores.abstract import Event
from umbel.stores.legible import check_event
from umbel.stores.link import Verdict

NO_PLAN = "its plan is in no event, as an earlier version wrote them: whether it is the one that was led is not shown"


@click.group()
def audit() -> None:
    """Look whether a run's log is whole and unchanged, and prove what is in it."""


@audit.command("verify")
@click.argument("run", default="last")
@click.option("--head", help="The digest of an event that was seen earlier, which must still be there.")
@click.option(
    "--seen", type=Path, help="Tree heads or receipts that were kept: the events of this run's must be there."
)
@with_trust
@with_json
@with_place
def verify(
    run: str, head: str | None, seen: Path | None, key: str | None, ca: Path | None, as_json: bool, place: Place
) -> int:
    """Walk the log of RUN: each event names the one before it by its SHA-256, and tree heads are signed.

    Ends with 1 if one does not, if a signature is not good, if the plan is not the one that the log names, or if a
    run that is over lacks its end. Where a key or a CA is known, so does the log of such a run that is not signed to
    its last event, and with --key or --ca any that nobody has signed.
    """
    if head is not None and (len(head) != 64 or set(head) - set("0123456789abcdef")):
        raise ConfigError(f"--head is the SHA-256 of an event, 64 digits of 0-9 and a-f, got {head!r}")
    trust = named(key, ca)
    trust = trust if trust.named else known(place)
    check = trust.check()
    info, events = _log(run, place)
    kept, skipped = ([], 0) if seen is None else _kept(seen, info.id)
    verdict = _walked(info, events, head, kept, trust)
    unsigned = verdict.tree_heads == 0 or check is None
    if as_json:
        told = {"run": info.id, **asdict(verdict), "signed_by": "" if unsigned else trust.whose}
        click.echo(json.dumps({**told, **({} if seen is None else {"skipped": skipped})}))
    elif verdict.problem is not None:
        click.echo(f"run {info.id}: {verdict.problem}")
    else:
        old = f"; the first {verdict.unlinked} have no links, an earlier version wrote them" if verdict.unlinked else ""
        click.echo(f"run {info.id}: {verdict.events} events, unbroken{old}")
        click.echo(_signed(verdict, trust, is_checked=check is not None))
        click.echo("its plan is the one that the log names" if verdict.plan else NO_PLAN)
        if seen is not None:
            others = f"; {skipped} of other runs were skipped" if skipped else ""
            click.echo(f"statements in {seen} that are in it: {len(kept)}{others}")
        click.echo(f"the last one's digest is {verdict.head}; keep it, and give it as --head the next time")
    return FAILED if verdict.problem is not None or (trust.named and unsigned) else FINE


def _kept(seen: Path, run: str) -> tuple[list[Statement], int]:
    """What was kept of a run, and how many statements in the file are of others.

    Raises:
        ConfigError: nothing in it is of this run, or it holds something else.
    """
    kept = read_statements(seen)
    if any(one.kind == REPORT for one in kept):
        raise ConfigError(
            f"--seen is a tree head or a receipt, and {seen} is a report on privacy; umbel audit check looks at that"
        )
    own = [one for one in kept if one.signed["run"] == run]
    if not own:
        others = ", ".join(sorted({one.signed["run"] for one in kept})[:3])
        raise ConfigError(f"{seen} holds nothing of run {run}, only of {others or 'nothing'}; name one of these")
    return own, len(kept) - len(own)


def _walked(info: RunInfo, events: list[Event], head: str | None, kept: list[Statement], trust: Trust) -> Verdict:
    """The verdict on a log, and on all that was kept of it."""
    seen = [one.signed for one in kept]
    verdict = looked(info, events, check=trust.check(), trusts=trust.is_known, head=head, seen=seen)
    for one in kept:
        if verdict.problem is None and one.kind == receipt.KIND:
            wrong = receipt.why_not_in(one.data, events)
            verdict = verdict if wrong is None else replace(verdict, problem=f"{wrong}: the log was written anew")
    return verdict


def _signed(verdict: Verdict, trust: Trust, *, is_checked: bool) -> str:
    rest = "give --key or --ca, or as --head or --seen what somebody has kept"
    if not verdict.tree_heads and trust.is_known:
        return "nothing in it is signed yet"
    if not verdict.tree_heads:
        return f"nothing in it is signed, and no key is known here: all of it may have been written anew; {rest}"
    if not is_checked:
        return "its signatures were not looked at, as cryptography is not installed: anybody may have written it"
    later = verdict.events - verdict.covered - 1
    unsigned = f"; {later} came later and are not signed yet" if later else ""
    if trust.is_known:
        return f"the first {verdict.covered} are signed by {trust.whose}{unsigned}"
    whose = f"a key that nobody here knows, which anybody may have made{unsigned}"
    return f"the first {verdict.covered} are signed by {whose}; {rest}"


@audit.command("prove")
@click.argument("run", default="last")
@click.option("--node", required=True, help="Whose answers.")
@with_place
def prove(run: str, node: str, place: Place) -> int:
    """Print a proof, a line of JSON, for each round of RUN that has an answer of the node.

    Each holds the round's whole event, with the names of all who took part. Ends with 1 if there is none.
    """
    info, events = _log(run, place)
    name = info.id
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
    info, events = _log(run, place)
    trust = known(place)
    verdict = looked(info, events, check=trust.check(), trusts=trust.is_known)
    with place.opened() as store:
        kept = {number: _model(store, info.id, number) for number in store.checkpoints(info.id)}
    with legible(info.id):
        models = {number: digest for number, digest in kept.items() if digest is not None}
        found = replayed(info.plan, events, models)
    # The plan is looked at by both.
    problems = list(dict.fromkeys([*([verdict.problem] if verdict.problem else []), *found.problems]))
    problems += [f"the checkpoint of round {number} cannot be read" for number in kept if kept[number] is None]
    if as_json:
        click.echo(json.dumps({"run": info.id, **asdict(found), "problems": problems}))
        return FAILED if problems else FINE
    click.echo(f"run {info.id}: {'all that was compared fits' if not problems else 'something does not fit'}")
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
@click.option("--plan", type=Path, help="A file to write the run's plan to, which the log names by its digest.")
@with_place
def export(run: str, file: Path, plan: Path | None, place: Place) -> None:
    """Write the log of RUN to FILE, an event a line, for an auditor who has no Umbel (see docs/audit.md)."""
    for path in [file, *([plan] if plan else [])]:
        if path.exists():
            raise ConfigError(f"{path} is there already; choose another name")
    info, events = _log(run, place)
    _write(file, "".join(json.dumps({"run": info.id, **event}) + "\n" for event in events))
    if plan is not None:
        _write(plan, json.dumps(info.plan, sort_keys=True) + "\n")
    click.echo(f"{file}: the log of run {info.id}, {len(events)} events{f'; {plan}: its plan' if plan else ''}")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}; choose another place") from error


def _log(run: str, place: Place) -> tuple[RunInfo, list[Event]]:
    with place.opened() as store:
        info = find_run(store, run)
        log = store.log(info.id)
    for number, event in enumerate(log, 1):
        check_event(info.id, number, event)
    found = [event for event in log if event["kind"] != "waiting"]
    # From a server each says of which run it is; in the log it does not.
    return info, [{key: value for key, value in event.items() if key != "run"} for event in found]
