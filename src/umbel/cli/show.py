"""`umbel ls` and `umbel show`: what the store knows of runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from umbel.arrays import Arrays
from umbel.cli.options import console, find_run, legible, with_json
from umbel.cli.place import Place, RemoteRuns, with_place
from umbel.errors import printable
from umbel.observe.sparkline import sparkline
from umbel.observe.table import number, rounds_table
from umbel.runtimes.history import History
from umbel.stores import RunInfo, RunReader

NEWEST = 20
FAILURES = 10


@click.command()
@click.option("--all", "everything", is_flag=True, help=f"All runs, not only the newest {NEWEST}.")
@with_json
@with_place
def ls(everything: bool, as_json: bool, place: Place) -> None:
    """List the runs in the store, oldest first."""
    with place.opened() as store:
        runs = store.runs()
        chosen = runs if everything else runs[-NEWEST:]
        waits = store.waits_for if isinstance(store, RemoteRuns) else {}
        lines = [_line(store, run, waits.get(run.id)) for run in chosen]
    if as_json:
        click.echo(json.dumps(lines))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("run", "name", "status", "rounds", "loss", "started"):
        table.add_column(title, justify="right" if title in ("rounds", "loss") else "left", overflow="fold")
    for line in lines:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(line["created_s"]))
        rounds = f"{line['round']}/{line['num_rounds']}"
        table.add_row(line["run"], Text(printable(line["name"])), line["status"], rounds, number(line["loss"]), started)
    console().print(table)
    for line in lines:
        if line["waits_for"]:
            click.echo(f"{line['run']} is {line['waits_for']}")
    if len(chosen) < len(runs):
        click.echo(f"… and {len(runs) - len(chosen)} older: umbel ls --all")


def _line(store: RunReader, info: RunInfo, waits_for: str | None) -> dict[str, Any]:
    history = _history(store, info)
    with legible(info.id):
        return {
            "run": info.id,
            "name": info.name,
            "status": _status(store, info),
            "round": max((record.round for record in history.rounds), default=0),
            "num_rounds": info.plan["config"]["num_rounds"],
            "loss": history.loss,
            "metrics": dict(history.metrics),
            "created_s": info.created_s,
            "waits_for": waits_for,
        }


def _history(store: RunReader, info: RunInfo) -> History:
    return History.of(store.log(info.id), Arrays.of({}), info.id, info.plan)


def _status(store: RunReader, info: RunInfo) -> str:
    """A run noted as running whose process is not there was broken off."""
    if info.status != "running":
        return info.status
    return "running" if store.is_claimed(info.id) else "unfinished"


@click.command()
@click.argument("run")
@with_json
@with_place
def show(run: str, as_json: bool, place: Place) -> None:
    """Show RUN (its id, the beginning of it, or "last"): rounds, curves, plan, warnings, failures."""
    with place.opened() as store:
        info = find_run(store, run)
        history = _history(store, info)
        status = _status(store, info)
        matching = _matching(store, info)
        waits = store.waits_for.get(info.id) if isinstance(store, RemoteRuns) else None
    with legible(info.id):
        if as_json:
            click.echo(json.dumps({**_data(info, history, status), "matching": matching, "waits_for": waits}))
        else:
            _show(info, history, status, matching, waits)


def _show(info: RunInfo, history: History, status: str, matching: int | None, waits: str | None) -> None:
    terminal = console()
    _show_plan(terminal, info, status, matching)
    if waits:
        terminal.print(Text(f"{waits}\n"))
    terminal.print(rounds_table(history.rounds))
    _show_curves(terminal, history)
    _show_privacy(terminal, history)
    _show_troubles(terminal, history)


def _data(info: RunInfo, history: History, status: str) -> dict[str, Any]:
    return {
        "run": info.id,
        "name": info.name,
        "status": status,
        "created_s": info.created_s,
        "ended": history.ended,
        "plan": dict(info.plan),
        "warnings": list(history.warnings),
        "privacy": [asdict(release) for release in history.privacy],
        "rounds": [asdict(record) for record in history.rounds],
    }


def _matching(store: RunReader, info: RunInfo) -> int | None:
    """How many clients matched the run's condition in its last round; None if it has none, or no round yet."""
    return next((event["matching"] for event in reversed(store.events(info.id)) if "matching" in event), None)


def _show_plan(terminal: Console, info: RunInfo, status: str, matching: int | None) -> None:
    plan = info.plan
    app: Mapping[str, Any] = plan.get("app") or {}
    engine: Mapping[str, Any] = plan.get("engine") or {}
    config = plan["config"]
    coordinator: Mapping[str, Any] = plan.get("coordinator") or {}
    at_once = coordinator.get("concurrency")
    asked = f"{at_once} train at once" if at_once else f"{config['fraction_fit']:.0%} are asked per round"
    clients = f"{plan['num_clients']}, of which {asked}"
    where = config.get("where")
    matched = "" if matching is None else f", which {matching} match"
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in (
        ("run", info.id),
        ("name", info.name),
        ("status", status),
        ("app", f"{app['name']} ({app['path']})" if app else "none: started from Python"),
        ("strategy", _call(plan["strategy"])),
        *([("coordinator", _call(coordinator))] if coordinator else []),
        ("settings", ", ".join(f"{key}={value}" for key, value in plan.get("settings", {}).items()) or "none"),
        ("clients", clients),
        *([("where", f"{where}{matched}")] if where else []),
        ("rounds", str(config["num_rounds"])),
        ("seed", str(config["seed"])),
        ("engine", ", ".join(f"{key}={value}" for key, value in engine.items()) or "unknown"),
    ):
        table.add_row(Text(name, style="bold"), Text(printable(text)))
    terminal.print(table)
    terminal.print()


def _call(value: object) -> str:
    """A described value as one would write it: FedProx(mu=0.1), with defaults of their own left in."""
    if isinstance(value, Mapping):
        fields: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
        name = fields.pop("name", "")
        return f"{name}({', '.join(f'{key}={_call(item)}' for key, item in fields.items() if item is not None)})"
    return repr(value)


def _show_curves(terminal: Console, history: History) -> None:
    names = ["loss", *sorted({name for record in history.rounds for name in record.metrics})]
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in names:
        values = [value for _, value in history.series(name)]
        if len(values) > 1:
            ends = f"{number(values[0])} → {number(values[-1])}"
            table.add_row(Text(name, style="bold"), Text(sparkline(values)), Text(ends))
    if table.row_count:
        terminal.print()
        terminal.print(table)


def _show_privacy(terminal: Console, history: History) -> None:
    if history.privacy:
        last = history.privacy[-1]
        text = f"ε = {last.epsilon:.3g} at δ = {last.delta:g} after {len(history.privacy)} releases"
        terminal.print()
        terminal.print(Text.assemble(("privacy ", "bold"), text))


def _show_troubles(terminal: Console, history: History) -> None:
    failures = [(record.round, failure) for record in history.rounds for failure in record.failures]
    lines = [Text(printable(f"warning: {text}"), style="yellow") for text in history.warnings]
    lines += [
        Text(printable(f"round {n}: client {f.client} failed: {f.reason}"), style="red")
        for n, f in failures[-FAILURES:]
    ]
    if len(failures) > FAILURES:
        lines.append(
            Text(f"… and {len(failures) - FAILURES} earlier failures; umbel show {history.run} --json has all")
        )
    if history.ended.startswith("failed"):
        lines.append(Text(printable(history.ended), style="red"))
    if lines:
        terminal.print()
    for line in lines:
        terminal.print(line)
