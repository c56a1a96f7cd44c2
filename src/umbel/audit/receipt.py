"""Receipts: what a server gives a node for an answer that went into a model, signed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from umbel.audit.contribution import Contribution
from umbel.audit.key import LogKey
from umbel.audit.tree import includes, inclusions, root_of
from umbel.errors import ConfigError
from umbel.stores.link import Check, canonical, digest

KIND = "receipt"
MOST_BYTES = 16 * 2**10
SIGNED = ("format", "kind", "run", "size", "root", "head", "at_s", "index", "event", "listed", "count")
"""What the signature is over: the same for all receipts of a round."""
_TEXTS = ("run", "client", "update", "event", "root", "head", "listed", "key", "signature")
_NUMBERS = ("round", "attempt", "index", "size", "at_s", "count", "place")


def receipt_bytes(receipt: Mapping[str, Any]) -> bytes:
    """What the signature of a receipt is over."""
    return b"umbel receipt 1\n" + canonical({name: receipt[name] for name in SIGNED})


def write_receipts(
    key: LogKey, stand: Mapping[str, Any], index: int, event: str, listed: Sequence[Contribution]
) -> list[bytes]:
    """A receipt as JSON for each contribution of a round. All have one signature, over the tree of all of them.

    Args:
        stand: the log as it is: run, size, root, head and at_s.
        index: of the round's event in the log, from 0.
        event: its digest.
        listed: all contributions of the event, in its order.
    """
    entries = [one.plain() for one in listed]
    digests = [digest(entry) for entry in entries]
    about = {"format": 1, "kind": KIND, **stand, "index": index, "event": event}
    about |= {"listed": root_of(digests), "count": len(entries)}
    about |= {"key": key.public, "signature": key.sign(receipt_bytes(about))}
    about |= {"certificate": key.certificate} if key.certificate else {}
    own = (
        {**entry, "place": place, "path": path}
        for place, (entry, path) in enumerate(zip(entries, inclusions(digests), strict=True))
    )
    # What is common to all is written once: it is most of a receipt.
    common = canonical(about)[:-1] + b","
    return [common + canonical(one)[1:] for one in own]


def why_no_receipt(receipt: Mapping[str, Any], check: Check | None) -> str | None:
    """What is wrong with a receipt, in the rest of a sentence; None if it shows what it says.

    Args:
        check: says what is wrong with a signature over `receipt_bytes`; None looks at none.
    """
    try:
        entry = digest(_entry(receipt))
        if not includes(receipt["listed"], receipt["count"], entry, receipt["place"], receipt["path"]):
            return "is for an update that is not among those that were signed"
    except (KeyError, TypeError, ValueError):
        return "cannot be read"
    return check and check(receipt)


def _entry(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The contribution that a receipt is for, as it stands in the round's event."""
    return {name: receipt[name] for name in Contribution.__dataclass_fields__ if name in receipt}


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
    listed = event.get("contributions", ())
    if _entry(receipt) not in listed or root_of([digest(one) for one in listed]) != receipt["listed"]:
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
