"""Receipts: what a server gives a node for an answer that went into a model, signed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from umbel.audit.contribution import Contribution
from umbel.audit.key import LogKey
from umbel.errors import ConfigError
from umbel.stores.link import canonical, digest

KIND = "receipt"
MOST_BYTES = 16 * 2**10
UNSIGNED = ("key", "certificate", "signature")
_TEXTS = ("run", "client", "update", "event", "root", "head", "key", "signature")
_NUMBERS = ("round", "attempt", "index", "size", "at_s")


def receipt_bytes(receipt: Mapping[str, Any]) -> bytes:
    """What the signature of a receipt is over: all of it but the signature, its key and that one's certificate."""
    return b"umbel receipt 1\n" + canonical({name: value for name, value in receipt.items() if name not in UNSIGNED})


def write_receipt(key: LogKey, stand: Mapping[str, Any], contribution: Contribution, index: int, event: str) -> bytes:
    """A receipt as JSON.

    Args:
        stand: the log as it is: run, size, root, head and at_s.
        index: of the round's event in the log, from 0.
        event: its digest.
    """
    about = {"format": 1, "kind": KIND, **stand, **contribution.plain(), "index": index, "event": event}
    signed = {**about, "key": key.public, "signature": key.sign(receipt_bytes(about))}
    return canonical({**signed, "certificate": key.certificate} if key.certificate else signed)


def read_receipt(data: bytes) -> dict[str, Any]:
    """The receipt in `data`; its signature is not looked at.

    Raises:
        ConfigError: it is none.
    """
    try:
        found: Any = json.loads(data) if len(data) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not _is_receipt(found):  # pyright: ignore[reportUnknownArgumentType]
        raise ConfigError("what should be a receipt is none; does the server run another version?")
    return found  # pyright: ignore[reportUnknownVariableType]


def _is_receipt(found: Mapping[str, Any]) -> bool:
    return (
        found.get("kind") == KIND
        and found.get("format") == 1
        and all(isinstance(found.get(name), str) for name in _TEXTS)
        and all(type(found.get(name)) is int for name in _NUMBERS)
    )


def why_not_in(receipt: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> str | None:
    """What of a receipt is not so in a log, whose chain and tree `link.verify` looks at; None if all is."""
    event = next((event for place, event in enumerate(events) if place == receipt["index"]), None)
    if event is None or digest(event) != receipt["event"]:
        return f"event {receipt['index'] + 1} is not the one that the receipt names"
    listed = {name: receipt[name] for name in Contribution.__dataclass_fields__ if name in receipt}
    if listed not in event.get("contributions", ()):
        return f"event {receipt['index'] + 1} does not list the update that the receipt is for"
    return None


def told_apart(statements: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Pairs of statements that cannot both be true: of one run and size, with different roots.

    Who signed both has told two stories (an equivocation), whatever the logs look like.
    """
    first: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    found: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for statement in statements:
        before = first.setdefault((statement["run"], statement["size"]), statement)
        if before["root"] != statement["root"]:
            found.append((before, statement))
    return found
