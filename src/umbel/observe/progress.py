"""Live progress on a terminal: rounds, clients of the present phase, loss, metrics, time left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from umbel.observe.table import number
from umbel.runtimes.progress import line

REFRESH_S = 0.1
WEIGHT = 0.3
SHOWN_METRICS = 3
PHASES = {"fit": "training", "evaluate": "evaluating"}


@final
class LiveProgress:
    """An observer with a display, to be used in a `with` block.

    It is redrawn when events come and never from a thread of its own: a second thread would keep the pool from forking.

    Args:
        num_rounds: how many rounds the run has.
        console: the terminal.
        now: a clock in seconds.
    """

    def __init__(self, num_rounds: int, console: Console, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._drawn, self._mean_s = now, 0.0, 0.0
        self._num_rounds = num_rounds
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._display = Progress(*columns, console=console, auto_refresh=False)
        self._rounds = self._display.add_task("rounds", total=num_rounds, note="")
        self._clients = self._display.add_task("clients", total=None, note="")

    def __enter__(self) -> Self:
        before = sys.stdout, sys.stderr
        self._display.start()
        _unhook_children(before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.remove_task(self._clients)
        self._display.stop()
        _hooked.clear()

    def __call__(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == "progress":
            self._phase(event)
        elif kind == "round":
            self._round(event)
        elif kind == "warning":
            self._display.console.print(Text(f"warning: {event['text']}", style="yellow"))
        elif kind == "waiting":
            self._display.console.print(Text(event["text"]))
        elif kind == "ended":
            self._display.console.print(Text(f"{event['reason']} after round {event['round']}"))

    def _phase(self, event: Mapping[str, Any]) -> None:
        name = PHASES.get(event["phase"], str(event["phase"]))
        done, total = event["done"], event["total"]
        self._display.update(self._clients, description=name, completed=done, total=total, note="clients")
        if done == total or self._now() - self._drawn >= REFRESH_S:
            self._draw()

    def _round(self, event: Mapping[str, Any]) -> None:
        seconds = event.get("seconds", 0.0)
        self._mean_s = seconds if not self._mean_s else (1 - WEIGHT) * self._mean_s + WEIGHT * seconds
        left_s = self._mean_s * (self._num_rounds - event["round"])
        note = ", ".join([*_measured(event), f"{duration(left_s)} left"])
        self._display.update(self._rounds, completed=event["round"], note=note)
        if event.get("failures"):
            self._display.console.print(Text(line(event), style="red"))
        self._draw()

    def _draw(self) -> None:
        self._drawn = self._now()
        self._display.refresh()


def _measured(event: Mapping[str, Any]) -> list[str]:
    loss = [] if event.get("loss") is None else [f"loss {number(event['loss'])}"]
    metrics = sorted(event.get("metrics", {}).items(), key=lambda pair: pair[0].startswith(("train_", "central_")))
    return loss + [f"{name} {number(value)}" for name, value in metrics[:SHOWN_METRICS]]


def duration(seconds: float) -> str:
    """Seconds for a reader: "0.8 s", "8 s", "3 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if seconds < 3:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


_hooked: list[tuple[Any, Any]] = []


def _unhook_children(streams: tuple[Any, Any]) -> None:
    """Give forked workers the plain streams: in a child rich would draw the parent's display once more."""
    if not _registered and hasattr(os, "register_at_fork"):
        _registered.append(True)
        os.register_at_fork(after_in_child=_restore)
    _hooked.append(streams)


_registered: list[bool] = []


def _restore() -> None:
    if _hooked:
        sys.stdout, sys.stderr = _hooked[-1]
