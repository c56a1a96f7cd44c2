"""The chain of a run's log: each event names the one before it by its SHA-256, so that no event can be changed unseen.
Now and then an event of the kind "tree_head" signs the Merkle tree over all events before it.

This file needs nothing but Python, and `cryptography` where signatures are to be looked at. An auditor may run it by
itself on a log that was written by `umbel audit export RUN LOG.jsonl`:

    python link.py RUN LOG.jsonl [HEAD] [--ca ca.crt | --key HEX] [--seen receipt.json]

References:
    B. Laurie, A. Langley, E. Kasper. Certificate Transparency. RFC 6962, 2013. https://www.rfc-editor.org/rfc/rfc6962
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

LINK = "previous"
"""The key under which an event names the one before it."""
OPENING = "umbel log 1\n"
TREE_HEAD = "tree_head"
SIGNED = ("run", "size", "root", "head", "at_s")
"""What a tree head's signature is over."""
LOG_USE = "2.25.121801747579026429836240385418142217986"
"""The use in a certificate whose key may sign logs and receipts, and do nothing else."""
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
Check: TypeAlias = Callable[[Mapping[str, Any]], "str | None"]


def canonical(event: Mapping[str, Any]) -> bytes:
    """An event as the bytes that are hashed: JSON with sorted keys, no spaces, ASCII, and numbers as Python writes
    them."""
    return _JSON.encode(event).encode()


def digest(event: Mapping[str, Any]) -> str:
    """The SHA-256 of an event, its link included."""
    return hashlib.sha256(canonical(event)).hexdigest()


def opening(run: str) -> str:
    """What the first event of a run names."""
    return hashlib.sha256((OPENING + run).encode()).hexdigest()


def linked(event: Mapping[str, Any], previous: str) -> dict[str, Any]:
    """The event with its link to the one whose digest is `previous`."""
    return {**event, LINK: previous}


def leaf(event_digest: str) -> bytes:
    """The hash of a leaf of the tree, whose data is the digest of an event."""
    return hashlib.sha256(b"\x00" + bytes.fromhex(event_digest)).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash of a node of the tree."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@final
class Frontier:
    """The Merkle tree of RFC 6962 as far as its root and its growth need it: the roots of its full subtrees."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def add(self, event_digest: str) -> None:
        """Append one leaf."""
        added, below = leaf(event_digest), self.size
        while below & 1:
            added, below = node(self._roots.pop(), added), below >> 1
        self._roots.append(added)
        self.size += 1

    @property
    def root(self) -> str:
        """The root over all leaves so far."""
        if not self._roots:
            return hashlib.sha256(b"").hexdigest()
        *others, value = self._roots
        for left in reversed(others):
            value = node(left, value)
        return value.hex()


@final
@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        events: how many there are.
        head: the digest of the last one: who keeps it can tell later that nothing was cut off.
        unlinked: how many of the first ones have no link: they were written by a version that had none.
        problem: what is wrong, in a sentence; None if nothing is.
        root: the root of the tree over all of them.
        tree_heads: how many of them are tree heads.
        covered: how many events come before the last tree head, and are in its root.
    """

    events: int
    head: str
    unlinked: int
    problem: str | None
    root: str = ""
    tree_heads: int = 0
    covered: int = 0


def verify(
    run: str,
    events: Iterable[Mapping[str, Any]],
    *,
    head: str | None = None,
    seen: Mapping[str, Any] | None = None,
    check: Check | None = None,
) -> Verdict:
    """Walk a log and see whether each event names the one before it, and each tree head the tree before it.

    Args:
        head: the digest of an event that was seen earlier, which must still be there.
        seen: a tree head or a receipt that was seen earlier: its `size` events must still be there, under its `root`.
        check: says what is wrong with the signature of a tree head; None looks at none.
    """
    count = unlinked = heads = covered = 0
    last, head_seen, size_seen = opening(run), head is None, seen is None
    tree, problems = Frontier(), list[str]()
    for event in events:
        named, kind = event.get(LINK), event.get("kind", "an event")
        if named is None and unlinked == count:
            unlinked += 1
        elif named != last:
            what = "has no link" if named is None else "does not name the event before it"
            where = f"event {count + 1} ({kind} of round {event.get('round', 0)})"
            problems.append(f"{where} {what}: something here was changed, removed or put in")
        if kind == TREE_HEAD:
            heads, covered = heads + 1, count
            wrong = _unfit(event, tree, last) or (check and check({**event, "run": run}))
            if wrong:
                problems.append(f"event {count + 1} (the tree head of {event.get('size')} events) {wrong}")
        count, last = count + 1, digest(event)
        tree.add(last)
        head_seen = head_seen or last == head
        size_seen = size_seen or (seen is not None and _is_of(seen, run, tree))
    if not head_seen:
        problems.append(f"no event has the digest {head}: the log was cut off, or is another one")
    if seen is not None and not size_seen:
        problems.append(
            f"the first {seen.get('size')} events of run {run} do not have the root {seen.get('root')} that was seen: "
            "the log was cut off or written anew, or is another one"
        )
    return Verdict(count, last, unlinked, problems[0] if problems else None, tree.root, heads, covered)


def _is_of(seen: Mapping[str, Any], run: str, tree: Frontier) -> bool:
    """Whether something that was seen earlier is about this very tree."""
    return seen.get("size") == tree.size and seen.get("run") == run and seen.get("root") == tree.root


def _unfit(event: Mapping[str, Any], tree: Frontier, last: str) -> str | None:
    """What a tree head says that is not so."""
    if (event.get("size"), event.get("root"), event.get("head")) != (tree.size, tree.root, last):
        return "does not fit the events before it"
    return None


def signed_bytes(statement: Mapping[str, Any]) -> bytes:
    """What the signature of a tree head is over."""
    return b"umbel tree head 1\n" + canonical({name: statement[name] for name in SIGNED})


def signatures(
    *,
    key: str | None = None,
    ca_pem: bytes | None = None,
    message: Callable[[Mapping[str, Any]], bytes] = signed_bytes,
) -> Check:
    """What looks at signatures, with `cryptography`.

    Args:
        key: the only public key that is trusted, as 64 hexadecimal digits.
        ca_pem: the server's CA, whose certificates for log keys are trusted. Without either the key that a statement
            itself names is taken: then a good signature shows one hand, not whose.
        message: what is signed of a statement.

    Raises:
        ImportError: `cryptography` is not installed.
        ValueError: `ca_pem` is no certificate.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    ca = None if ca_pem is None else x509.load_pem_x509_certificate(ca_pem)

    def certified(statement: Mapping[str, Any], public: Ed25519PublicKey) -> bool:
        certificate = x509.load_pem_x509_certificate(str(statement.get("certificate", "")).encode())
        try:
            certificate.verify_directly_issued_by(ca)  # pyright: ignore[reportArgumentType]
        except (ValueError, TypeError, InvalidSignature):
            return False
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        first, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        in_time = first.timestamp() <= statement["at_s"] <= end.timestamp()
        return certificate.public_key() == public and x509.ObjectIdentifier(LOG_USE) in uses and in_time

    def check(statement: Mapping[str, Any]) -> str | None:
        try:
            named = str(statement["key"])
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(named))
            if key is not None and named != key:
                return f"is signed by the key {named}, not by the one that is trusted"
            if ca is not None and not certified(statement, public):
                return "is signed by a key that the CA does not vouch for"
            public.verify(bytes.fromhex(statement["signature"]), message(statement))
        except InvalidSignature:
            return "has a signature that is not good"
        except (KeyError, ValueError, TypeError, x509.ExtensionNotFound):
            return "has no signature or certificate that can be read"
        return None

    return check


def main(arguments: list[str]) -> int:
    """`RUN LOG.jsonl [HEAD]`: say what was found; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python link.py", description="Look whether a run's log is what was written.")
    for name in ("run", "log"):
        parser.add_argument(name)
    parser.add_argument("head", nargs="?", help="the digest of an event that was seen earlier")
    parser.add_argument("--seen", help="a file with a tree head or receipt that was seen earlier")
    trusted = parser.add_mutually_exclusive_group()
    trusted.add_argument("--key", help="the public key that signs, 64 hexadecimal digits")
    trusted.add_argument("--ca", help="the file of the server's CA certificate")
    asked = parser.parse_args(arguments)
    try:
        events = read_log(asked.run, _bytes(asked.log))
        seen = None if asked.seen is None else json.loads(_bytes(asked.seen))
    except (OSError, ValueError) as error:
        sys.stdout.write(f"this cannot be read: {error}\n")
        return 1
    check = None
    if asked.key or asked.ca:
        check = signatures(key=asked.key, ca_pem=None if asked.ca is None else _bytes(asked.ca))
    verdict = verify(asked.run, events, head=asked.head, seen=seen, check=check)
    good = verdict.problem is None and (check is None or verdict.tree_heads > 0)
    sys.stdout.write(told(verdict, is_checked=check is not None) + "\n")
    return 0 if good else 1


def read_log(run: str, data: bytes) -> list[dict[str, Any]]:
    """The events in an exported log.

    Raises:
        ValueError: a line is no event of this run.
    """
    events: list[dict[str, Any]] = []
    for number, line in enumerate(data.decode().splitlines(), 1):
        event = json.loads(line)
        # A line says of which run it is; the event does not.
        if not isinstance(event, dict) or event.pop("run", run) != run:  # pyright: ignore[reportUnknownMemberType]
            raise ValueError(f"line {number} is no event of run {run}")
        events.append(event)  # pyright: ignore[reportUnknownArgumentType]
    return events


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def told(verdict: Verdict, *, is_checked: bool) -> str:
    """A verdict as a sentence."""
    if verdict.problem is not None:
        return verdict.problem
    if not is_checked:
        signed = ""
    elif not verdict.tree_heads:
        signed = ", but nobody has signed them"
    else:
        later = verdict.events - verdict.covered - 1
        signed = f", signed up to event {verdict.covered}" + (f" ({later} came after the signature)" if later else "")
    return f"{verdict.events} events, unbroken{signed}; the last one's digest is {verdict.head}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
