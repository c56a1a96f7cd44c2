"""Histories and sweeps as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from umbel.runtimes.history import RoundRecord
from umbel.runtimes.sweep import Sweep

LAST = 10


def rounds_table(rounds: Sequence[RoundRecord], *, most: int = 40) -> Table:
    """One row per round: loss, metrics, clients, failures, seconds.

    Args:
        rounds: the records of a history, in order.
        most: of more rounds than this, some in the middle are left out (one row says how many).
    """
    names = sorted({name for record in rounds for name in record.metrics})
    losses = any(record.loss is not None for record in rounds)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("round", *(["loss"] if losses else []), *names, "clients", "failed", "seconds"):
        table.add_column(title, justify="right", overflow="fold")
    left_out = len(rounds) - most
    head = rounds[: most - LAST] if left_out > 0 else rounds
    for record in head:
        table.add_row(*_cells(record, names, losses))
    if left_out > 0:
        table.add_row(f"… {left_out} more")
        for record in rounds[-LAST:]:
            table.add_row(*_cells(record, names, losses))
    return table


def sweep_table(sweep: Sweep) -> Table:
    """One row per point: settings, mean and spread of the metric, runs, failures; the best is marked."""
    titles, *rows = sweep.cells()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(Text(title), justify="right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row), style="bold green" if row[-1] else None)
    return table


def _cells(record: RoundRecord, names: Sequence[str], losses: bool) -> list[str]:
    values = [*([record.loss] if losses else []), *(record.metrics.get(name) for name in names)]
    failed = f"[red]{len(record.failures)}[/red]" if record.failures else "0"
    return [str(record.round), *map(number, values), str(record.participants), failed, f"{record.seconds:.2f}"]


def number(value: float | None) -> str:
    """Four digits, or a dash for what was not measured."""
    return "-" if value is None else f"{value:.4g}"
