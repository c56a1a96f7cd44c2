"""What `umbel server` and `umbel node` say while they live: sentences for people, or a JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from umbel.cli import codes

FORMATS = ("text", "json")
_RUN = r"run (?P<run>\S+)"
_TURN = r"round (?P<round>\d+) of run (?P<run>\S+)"
# The event and the level of each sentence. The first pattern that fits wins, and its groups become fields. Sentences
# come from all of the runtimes, which know nothing of this; one that fits nowhere is a "note" and loses nothing.
EVENTS = tuple(
    (event, level, re.compile(pattern, re.S))
    for event, level, pattern in (
        ("listening", "info", r"listening at (?P<address>\S+) with (?P<apps>.+)"),
        ("insecure", "warning", r"warning: this server is insecure.*"),
        ("invite_hint", "info", r"invite a node with: .*"),
        ("stopping", "info", r"stopping: .*"),
        ("standing_by", "info", r"standing by: .*"),
        ("leading", "warning", r"the other server has ended; .*"),
        ("queue_stuck", "error", r"it cannot be seen whose turn it is: (?P<reason>.*)"),
        ("not_renewed", "error", r"the server's certificate cannot be renewed: (?P<reason>.*)"),
        ("run_waiting", "info", _RUN + r" \((?P<name>.*)\) waits for (?P<nodes>\d+) nodes"),
        ("run_ended", "info", _RUN + r" ended: (?P<reason>.*)"),
        ("run_failed", "error", _RUN + r" failed: (?P<reason>.*)"),
        ("run_not_resumed", "error", _RUN + r" is not resumed: (?P<reason>.*)"),
        ("run_not_taken", "warning", _RUN + r" is not taken: (?P<reason>.*)"),
        ("run_cannot_begin", "error", _RUN + r" cannot begin here: (?P<reason>.*)"),
        ("node_gone", "warning", r"node (?P<node>.+?) is gone: (?P<reason>.*)"),
        ("node_unwilling", "warning", r"node (?P<node>.+?) does not take part: (?P<reason>.*)"),
        ("message_refused", "warning", r"node (?P<node>.+?) does not take a message: (?P<reason>.*)"),
        ("answer_kept_in", "warning", r"an answer of " + _TURN + r" does not leave: (?P<reason>.*)"),
        ("ask_declined", "warning", _TURN + r" is not worked on: (?P<reason>.*)"),
        ("turn_unanswered", "error", _TURN + r" is not answered: (?P<reason>.*)"),
        ("receipt_refused", "warning", r"the receipt for " + _TURN + r" is not in order: (?P<reason>.*)"),
        ("turn_failed", "error", r"(?P<ask>\w+) in " + _TURN + r" failed: (?P<reason>.*)"),
        ("connected", "info", r"connected to (?P<server>.+) as (?P<node>.+)"),
        (
            "certificate_ended",
            "error",
            r"(?P<reason>the certificate of .+? ended on .*); trying again in (?P<retry_s>[\d.]+) s",
        ),
        ("disconnected", "warning", r"(?P<reason>.*); trying again in (?P<retry_s>[\d.]+) s"),
        ("resting", "info", r"(?P<reason>.*); coming back in (?P<retry_s>[\d.]+) s"),
        ("rejoined", "info", r"this code was used here before: going on as (?P<node>.+) of (?P<address>\S+)"),
        ("joined", "info", r"joined (?P<address>\S+) as (?P<node>.+)"),
    )
)
_NUMBERS: dict[str, Callable[[str], Any]] = {"round": int, "nodes": int, "retry_s": float}

option = click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Sentences, or a JSON object a line with time, level, event, text and fields.",
)


def entry(text: str, now: datetime) -> dict[str, Any]:
    """One line of the log as plain data: time (UTC, ISO 8601), level, event, text, and what the sentence names.

    Args:
        text: a sentence of the server's or the node's.
        now: when it was said.
    """
    head = {"time": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    for event, level, pattern in EVENTS:
        if found := pattern.fullmatch(text):
            fields = {name: _NUMBERS.get(name, str)(value) for name, value in found.groupdict().items()}
            return {**head, "level": level, "event": event, "text": text, **fields}
    return {**head, "level": "info", "event": "note", "text": text}


@contextmanager
def told(log_format: str) -> Generator[Callable[[str], None]]:
    """What prints sentences on stdout, in one of `FORMATS`; JSON tells the error that ended the process, too.

    The sentence of an error on stderr and the exit code stay as they are.
    """
    if log_format == "text":
        yield click.echo
        return

    def write(text: str, **more: Any) -> None:
        click.echo(json.dumps({**entry(text, datetime.now(UTC)), **more}))

    try:
        yield write
    except (Exception, KeyboardInterrupt) as error:
        ended = {"error": type(error).__name__, "exit_code": codes.code_of(error)}
        write(codes.text_of(error), level="error", event="ended", **ended)
        raise
