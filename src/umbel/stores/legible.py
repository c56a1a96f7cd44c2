"""What is read from a store's medium, as data: whoever damaged or changed it there is told so in a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from umbel.errors import StoreError

MEND = "the store is damaged or was changed; restore it from a backup"


def read_log(run: str, bodies: Iterable[object]) -> list[dict[str, Any]]:
    """The events of a run, oldest first.

    Raises:
        StoreError: one is none; names the run and the event's place, from 1.
    """
    return [_event(run, number, body) for number, body in enumerate(bodies, 1)]


def read_last(run: str, body: object) -> dict[str, Any]:
    """The last event of a run, which the next one will name. Raises as `read_log`."""
    return _whole(f"the last event of run {run}", body)


def read_plan(run: str, body: object) -> Mapping[str, Any]:
    """A run's plan. Raises as `read_log`."""
    return _whole(f"the plan of run {run}", body)


def check_event(run: str, number: int, event: object) -> None:
    """Whether an event has what all have that a run writes. A store keeps any, and looks at what it needs itself.

    Raises:
        StoreError: it has not.
    """
    why = _why_no_event(event)
    if why is None and not isinstance(cast("dict[str, Any]", event).get("kind"), str):
        why = "does not say its kind"
    if why is not None:
        raise StoreError(f"event {number} of run {run} {why}; {MEND}")


def _event(run: str, number: int, body: object) -> dict[str, Any]:
    found = _object(body)
    why = found if isinstance(found, str) else _why_no_event(found)
    if why is not None:
        raise StoreError(f"event {number} of run {run} {why}; {MEND}")
    return cast("dict[str, Any]", found)


def _why_no_event(event: object) -> str | None:
    if not isinstance(event, dict):
        return "is no JSON object"
    # One that names no round is of none.
    named = cast("dict[str, Any]", event).get("round", 0)
    return None if type(named) is int else f"has the round {repr(named)[:50]}, which is no whole number"


def _whole(what: str, body: object) -> dict[str, Any]:
    found = _object(body)
    if isinstance(found, str):
        raise StoreError(f"{what} {found}; {MEND}")
    return found


def _object(body: object) -> dict[str, Any] | str:
    """The JSON object in a text; else what is wrong with it."""
    try:
        found: object = json.loads(cast("str", body))
    except (ValueError, TypeError, RecursionError):
        return "is no JSON"
    return cast("dict[str, Any]", found) if isinstance(found, dict) else "is no JSON object"
