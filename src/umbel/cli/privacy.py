"""`umbel privacy`: what the protection of a run or plan does, shown by attacks on it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

import umbel
from umbel.arrays import Arrays
from umbel.audit.whole import looked
from umbel.cli.codes import FAILED, FINE
from umbel.cli.drive import json_out
from umbel.cli.options import find_run, legible, opened, with_json, with_set, with_store
from umbel.cli.resume import entry_of, loaded
from umbel.cli.settings import changed
from umbel.cli.trust import beside_store
from umbel.errors import ConfigError, printable
from umbel.runtimes import checkpoint
from umbel.runtimes.app import load_app
from umbel.runtimes.history import History
from umbel.runtimes.keeping import FORGOTTEN
from umbel.runtimes.privacy_report.page import page, summary
from umbel.runtimes.privacy_report.report import QUICK, Report, look
from umbel.runtimes.privacy_report.row import TITLES, Level
from umbel.runtimes.privacy_report.subject import Subject
from umbel.runtimes.replay import rounds_in

if TYPE_CHECKING:
    from umbel.audit.key import LogKey


@click.command()
@click.argument("target", default=".")
@click.option(
    "--level",
    "levels",
    multiple=True,
    type=click.Choice(list(TITLES)),
    help=f"What to look at. Repeatable; default {', '.join(QUICK)}.",
)
@click.option("--out", type=Path, default=Path("privacy-report"), show_default=True, help="The folder to write to.")
@click.option("--app", type=Path, help="Where the app of a run is now, if it is not where it was.")
@with_set
@with_json
@with_store
def privacy(
    target: str,
    levels: tuple[str, ...],
    out: Path,
    app: Path | None,
    changes: tuple[str, ...],
    as_json: bool,
    path: Path,
) -> int:
    """Attack the protection of TARGET, an app's folder or a run (its id, the beginning of it, or "last").

    Writes privacy.json, signed if a key for logs is there, and the page privacy.html. Each attack comes with a control
    in which it has to work. Ends with 1 if something does not hold, or could not be shown.
    """
    with json_out(as_json) as stream:
        chosen = cast("tuple[Level, ...]", levels or QUICK)
        subject = _subject(target, app, changes, path)
        _make(out)
        report = look(subject, chosen, version=umbel.__version__, at_s=int(time.time()))
        signed = report.signed(_key(path))
        _write(out, report, signed)
        if stream is not None:
            stream.write(json.dumps(signed) + "\n")
        else:
            _tell(report, out)
    return FAILED if report.problems else FINE


def _subject(target: str, app: Path | None, changes: tuple[str, ...], path: Path) -> Subject:
    if Path(target).is_dir():
        if app is not None:
            raise ConfigError(f"--app is for runs, and {target} is an app's folder; leave it out")
        found = load_app(target)
        settings = changed(found.config, changes)
        return Subject(app=found, run=found.describe(settings), settings=settings)
    if not path.exists():
        raise ConfigError(
            f"there is no folder {target}, and no store {path} that could have such a run; name an app's folder, or "
            "the store with --store"
        )
    if changes:
        raise ConfigError("--set is for an app's folder; a run has the settings that it had")
    return _of_run(target, app, path)


def _of_run(target: str, app: Path | None, path: Path) -> Subject:
    trust = beside_store(path)
    with opened(path) as store:
        info = find_run(store, target)
        log, kept = store.log(info.id), store.checkpoints(info.id)
        history = History.of(log, Arrays.of({}), info.id, info.plan)
        finished = rounds_in(log)
        if any(event["kind"] == FORGOTTEN for event in log):
            # What is left is from before the removed models, which were released all the same.
            kept = [number for number in kept if number >= max(finished, default=0)]
        released = checkpoint.read(store.checkpoint(info.id, kept[-1]))[0].params if kept else None
    with legible(info.id):
        entry = entry_of(info, "name the folder of an app that does the same")
        found = loaded(info, entry, app, otherwise="undo the change, or look at a new run")
        without = tuple(info.plan.get("without", ()))
    return Subject(
        app=found,
        run=found.describe(entry["settings"]),
        settings=entry["settings"],
        id=info.id,
        released=released,
        without=without,
        spent=history.privacy,
        finished=len(finished),
        log_problem=looked(info, log, check=trust.check(), trusts=trust.is_known).problem or "",
    )


def _key(path: Path) -> LogKey | None:
    """The key that signs logs in the store's folder, if one was made there."""
    from umbel.audit.key import FILE, key_beside

    folder = path.resolve().parent
    return key_beside(folder) if (folder / FILE).is_file() else None


def _make(out: Path) -> None:
    """Before anything takes time: whether the files can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("privacy.json", "privacy.html"):
            with open(out / name, "a", encoding="utf-8"):
                pass
    except OSError as error:
        raise _unwritable(out, error) from None


def _write(out: Path, report: Report, signed: Mapping[str, Any]) -> None:
    try:
        (out / "privacy.json").write_text(json.dumps(signed, indent=1) + "\n", encoding="utf-8")
        (out / "privacy.html").write_text(page(report, signed), encoding="utf-8")
    except OSError as error:
        raise _unwritable(out, error) from None


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"the folder {out} cannot be written: {error.strerror}; choose another one with --out")


def _tell(report: Report, out: Path) -> None:
    for row in report.rows:
        click.echo(f"{row.level} {row.verdict:9} {row.name}: {printable(row.text)}")
        if row.control is not None:
            works = "works" if row.control.works else "does not work"
            click.echo(f"   control   {works}: {printable(row.control.text)}")
        if row.mend:
            click.echo(f"             → {printable(row.mend)}")
    click.echo(f"{printable(summary(report))} The report is in {out / 'privacy.html'} and {out / 'privacy.json'}")
