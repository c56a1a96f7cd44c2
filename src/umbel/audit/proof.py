"""Proofs for somebody who has no log: that a node's answer is in an event, and that one in a tree that was signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from umbel.audit.tree import includes, inclusion
from umbel.stores.link import TREE_HEAD, Check, digest

KIND = "proof"


def proofs(run: str, events: Sequence[Mapping[str, Any]], client: str) -> Iterator[dict[str, Any]]:
    """A proof for each event that lists an answer of `client` and is under a tree head already.

    It holds the whole event, without which nobody could compute its digest.
    """
    digests = [digest(event) for event in events]
    heads = [event for event in events if event.get("kind") == TREE_HEAD]
    for index, event in enumerate(events):
        if not _listed(event, client):
            continue
        head = next((head for head in heads if head["size"] > index), None)
        if head is not None:
            path = inclusion(digests[: head["size"]], index)
            whole = {"run": run, "client": client, "index": index, "event": dict(event)}
            yield {"format": 1, "kind": KIND, **whole, "proof": path, "tree_head": {**head, "run": run}}


def unsigned(events: Sequence[Mapping[str, Any]], client: str) -> int:
    """How many events list an answer of `client` and are not under a tree head yet."""
    covered = max((event["size"] for event in events if event.get("kind") == TREE_HEAD), default=0)
    return sum(bool(_listed(event, client)) for event in events[covered:])


def why_no_proof(proof: Mapping[str, Any], check: Check | None) -> str | None:
    """What is wrong with a proof, in the rest of a sentence; None if it shows what it says.

    Args:
        check: says what is wrong with the signature of a tree head; None looks at none.
    """
    try:
        event, head = proof["event"], proof["tree_head"]
        if head["run"] != proof["run"] or not _listed(event, proof["client"]):
            return "does not speak of an answer of its node"
        if not includes(head["root"], head["size"], digest(event), proof["index"], proof["proof"]):
            return "does not lead to the root that was signed"
        return check and check(head)
    except (KeyError, TypeError, ValueError, AttributeError):
        return "cannot be read"


def _listed(event: Mapping[str, Any], client: str) -> list[Mapping[str, Any]]:
    return [one for one in event.get("contributions", ()) if one["client"] == client]
