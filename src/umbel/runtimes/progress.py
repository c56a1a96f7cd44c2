"""Plain lines of progress, for terminals and logs alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

LEAST_SECONDS = 0.2
PASSING = ("progress", "waiting")
"""Events that are told and not kept in the log."""


def plain_progress(out: TextIO | None = None, *, least_s: float = LEAST_SECONDS) -> Callable[[Mapping[str, Any]], None]:
    """An observer that prints rounds, one in `least_s` seconds at most, and every warning and wait."""
    last = 0.0

    def observe(event: Mapping[str, Any]) -> None:
        nonlocal last
        stream = out or sys.stdout
        if event["kind"] == "warning":
            stream.write(f"warning: {event['text']}\n")
        elif event["kind"] == "round" and time.monotonic() - last >= least_s:
            last = time.monotonic()
            stream.write(line(event) + "\n")
        elif event["kind"] == "waiting":
            stream.write(f"{event['text']}\n")
        elif event["kind"] == "ended":
            stream.write(f"{event['reason']} after round {event['round']}\n")

    return observe


def line(event: Mapping[str, Any]) -> str:
    """One round in one line."""
    parts = [f"round {event['round']}"]
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.4g}")
    parts += [f"{name} {value:.4g}" for name, value in event.get("metrics", {}).items()]
    parts.append(f"{event.get('participants', 0)} clients")
    if event.get("failures"):
        client, reason = event["failures"][0]
        parts.append(f"{len(event['failures'])} failed (client {client}: {reason})")
    if event.get("simulated_s"):
        parts.append(f"{event['simulated_s']:.4g} s simulated")
    if "seconds" in event:
        parts.append(f"{event['seconds']:.2f} s")
    return ", ".join(parts)
