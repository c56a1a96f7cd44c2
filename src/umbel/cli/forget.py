"""`umbel forget`: a run without one of its clients."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from umbel.cli.again import app_for, arguments
from umbel.cli.codes import FINE
from umbel.cli.drive import json_out, progress
from umbel.cli.options import DEFAULT_STORE, find_run, opened, with_json, with_store
from umbel.cli.place import Place
from umbel.errors import AppError, ConfigError
from umbel.runtimes.forgetting import forget as forgetting
from umbel.runtimes.forgetting.influence import gave_first, influence
from umbel.stores import RunInfo, Store


@click.command()
@click.argument("run")
@click.option("--node", required=True, help="Which client: its id in a simulation, its name on a server.")
@click.option(
    "--method",
    type=click.Choice(forgetting.METHODS),
    default="exact",
    show_default=True,
    help="exact: train again without it; approximate: take its last step back and train on; remove: checkpoints only.",
)
@click.option("--rounds", type=int, help="With approximate: how many rounds the others train on; default a fifth.")
@click.option("--keep", is_flag=True, help="Leave the old run's checkpoints; the report lists those with the client.")
@click.option("--report", "file", type=Path, help="Where the signed report goes; default forgotten-RUN-NODE.json.")
@click.option("--app", "folder", type=Path, help="Where the app is now, if it is not where it was.")
@click.option("--force", is_flag=True, help="Go on although the app's files have changed.")
@with_json
@with_store
def forget(
    run: str,
    node: str,
    method: str,
    rounds: int | None,
    keep: bool,
    file: Path | None,
    folder: Path | None,
    force: bool,
    as_json: bool,
    path: Path,
) -> int:
    """Make RUN forget a client: a new run without it, and the checkpoints that hold something of it removed.

    A signed report says which guarantee was given, and which copies no command can reach.
    """
    with json_out(as_json) as out, opened(path) as store:
        info = find_run(store, run)
        file = file or Path(f"forgotten-{info.id}-{_safe(node)}.json")
        _check_free(file)
        place = Place(path, None, Path(), False)
        if method == "remove":
            told = _removed(store, info, node, place, folder, keep=keep)
        else:
            app = app_for(info, folder, place, force=force, instead=INSTEAD)
            given = arguments(app, info)
            with progress(given["config"].num_rounds) as observe:
                told = forgetting.forget(
                    app.client_fn,
                    **given,
                    app=app.entry(given["settings"]),
                    observers=[] if out is not None else [observe],
                    run=info.id,
                    client=node,
                    store=store,
                    method=method,
                    rounds=rounds,
                    keep=keep,
                ).report
        _write(file, told)
        if out is not None:
            out.write(json.dumps(told) + "\n")
        else:
            _tell(told, file, "" if path == DEFAULT_STORE else f" --store {path}")
        return FINE


INSTEAD = (
    "--method remove removes the checkpoints that hold something of the client; revoke it, and begin a new run without "
    "it (where=\"name != '…'\")"
)


def _removed(
    store: Store, info: RunInfo, node: str, place: Place, folder: Path | None, *, keep: bool
) -> Mapping[str, Any]:
    """Without training. Where nobody can say whose the first model was, it is taken for the client's own."""
    log = forgetting.check_over(store, info, node)
    gave = gave_first(log, info.plan, node)
    if gave is None:
        try:
            app = app_for(info, folder, place, force=True, instead="")
            gave = arguments(app, info)["initial_parameters"] is None
        except (AppError, ConfigError):
            gave = True
    config = info.plan.get("config", {})
    ends = config.get("target") is not None or config.get("patience") is not None
    part = influence(log, node, gave_first=gave, steered=ends and config.get("fraction_evaluate", 1.0) > 0)
    return forgetting.finished(store, info, node, part, "remove", keep=keep)


def _check_free(file: Path) -> None:
    """Whether the report can be written, while nothing is removed yet."""
    try:
        with open(file, "x", encoding="utf-8"):
            pass
        file.unlink()
    except FileExistsError:
        raise ConfigError(f"{file} is there already; name another place with --report") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}; name another place with --report") from None


def _safe(node: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in node)


def _write(file: Path, told: Mapping[str, Any]) -> None:
    try:
        file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        # It was done, and cannot be done again: the report must not be lost.
        sys.stderr.write(json.dumps(told) + "\n")
        raise ConfigError(f"{file} cannot be written: {error.strerror}; the report stands above") from error


def _tell(told: Mapping[str, Any], file: Path, option: str) -> None:
    click.echo(f"run {told['run']}: client {told['client']}: {told['guarantee']}: {told['means']}")
    if told["new_run"]:
        start = "from nothing" if told["from_round"] < 0 else f"from round {told['from_round']}"
        click.echo(f"the new run, {start}:  umbel show {told['new_run']}{option}")
    if told["also_without"]:
        click.echo(f"it is without these, too: {', '.join(told['also_without'])}")
    losses: Mapping[str, Mapping[str, float | None]] = told.get("losses") or {}
    for whose, loss in losses.items():
        click.echo(f"loss of {whose}: {_number(loss['before'])} before, {_number(loss['after'])} after")
    for name, text in (("removed_checkpoints", "removed"), ("kept_checkpoints", "kept, with something of it")):
        if told[name]:
            click.echo(f"checkpoints {text}: rounds {', '.join(map(str, told[name]))}")
    if told["other_runs"]:
        click.echo(f"it took part in other runs, too: {', '.join(told['other_runs'])}")
    for place in told["out_of_reach"]:
        click.echo(f"not reached: {place}")
    signed = "signed" if "signature" in told else "not signed, as the run's log is not"
    click.echo(f"the report, {signed}:  {file}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
