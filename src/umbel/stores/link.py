"""The chain of a run's log: each event names the one before it by its SHA-256, so that no event can be changed unseen.

This file needs nothing but Python: an auditor may run it by itself on a log that was written by
`umbel logs RUN --json`:

    python link.py RUN LOG.jsonl
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

LINK = "previous"
"""The key under which an event names the one before it."""
OPENING = "umbel log 1\n"


def canonical(event: Mapping[str, Any]) -> bytes:
    """An event as the bytes that are hashed: JSON with sorted keys, no spaces, ASCII, and numbers as Python writes
    them."""
    return json.dumps(event, sort_keys=True, separators=(",", ":")).encode()


def digest(event: Mapping[str, Any]) -> str:
    """The SHA-256 of an event, its link included."""
    return hashlib.sha256(canonical(event)).hexdigest()


def opening(run: str) -> str:
    """What the first event of a run names."""
    return hashlib.sha256((OPENING + run).encode()).hexdigest()


def linked(event: Mapping[str, Any], previous: str) -> dict[str, Any]:
    """The event with its link to the one whose digest is `previous`."""
    return {**event, LINK: previous}


@final
@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        events: how many there are.
        head: the digest of the last one: who keeps it can tell later that nothing was cut off.
        unlinked: how many of the first ones have no link: they were written by a version that had none.
        problem: what is wrong, in a sentence; None if nothing is.
    """

    events: int
    head: str
    unlinked: int
    problem: str | None


def verify(run: str, events: Iterable[Mapping[str, Any]], *, head: str | None = None) -> Verdict:
    """Walk a log and see whether each event names the one before it.

    Args:
        head: the digest of an event that was seen earlier, which must still be there.
    """
    count = unlinked = 0
    last, seen, problem = opening(run), head is None, None
    for event in events:
        named = event.get(LINK)
        if named is None and unlinked == count:
            unlinked += 1
        elif named != last and problem is None:
            what = "has no link" if named is None else "does not name the event before it"
            kind = f"{event.get('kind', 'an event')} of round {event.get('round', 0)}"
            problem = f"event {count + 1} ({kind}) {what}: something here was changed, removed or put in"
        count, last = count + 1, digest(event)
        seen = seen or last == head
    if problem is None and not seen:
        problem = f"no event has the digest {head}: the log was cut off, or is another one"
    return Verdict(count, last, unlinked, problem)


def main(arguments: list[str]) -> int:
    """`RUN LOG.jsonl [HEAD]`: say what was found; 0 if nothing is wrong."""
    if len(arguments) not in (2, 3):
        sys.stderr.write("usage: python link.py RUN LOG.jsonl [HEAD]\n")
        return 2
    run, path, *head = arguments
    with open(path, encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines if line.strip()]
    for event in events:
        event.pop("run", None)  # a line says of which run it is; the event does not
    verdict = verify(run, events, head=head[0] if head else None)
    found = verdict.problem or f"{verdict.events} events, unbroken; the last one's digest is {verdict.head}"
    sys.stdout.write(found + "\n")
    return 0 if verdict.problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
