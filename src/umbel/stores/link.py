"""The chain of a run's log: each event names the one before it by its SHA-256, so that no event can be changed unseen.
Now and then an event of the kind "tree_head" signs the Merkle tree over all events before it.

This file needs nothing but Python, and `cryptography` where signatures are to be looked at. An auditor may run it by
itself on a log that was written by `umbel audit export RUN LOG.jsonl`:

    python link.py RUN LOG.jsonl [HEAD] [--ca ca.crt | --key HEX] [--seen receipts.jsonl] [--plan plan.json]

References:
    B. Laurie, A. Langley, E. Kasper. Certificate Transparency. RFC 6962, 2013. https://www.rfc-editor.org/rfc/rfc6962
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

LINK = "previous"
"""The key under which an event names the one before it."""
OPENING = "umbel log 1\n"
TREE_HEAD = "tree_head"
PLAN = "plan"
"""The key under which an event names the run's plan by its digest, and the kind of one that says nothing else."""
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


def plan_digest(plan: Mapping[str, Any]) -> str:
    """The SHA-256 of a plan as a store gives it back: of the bytes of `canonical`."""
    return digest(json.loads(json.dumps(plan)))


def named_plan(events: Iterable[Mapping[str, Any]]) -> str | None:
    """The digest of the plan that a log names last; None if it names none, as an earlier version wrote it."""
    found = [event[PLAN] for event in events if PLAN in event]
    return None if not found else str(found[-1])


def why_another_plan(named: str | None, plan: str) -> str | None:
    """What is wrong with a plan of the digest `plan` where the log names another one last."""
    if named in (None, plan):
        return None
    return f"the plan has the digest {plan}, and the log names {named}: the run was led by another plan than this one"


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
        plan: the digest of the plan that the log names last; None if it names none, as earlier versions wrote it.
    """

    events: int
    head: str
    unlinked: int
    problem: str | None
    root: str = ""
    tree_heads: int = 0
    covered: int = 0
    plan: str | None = None


def verify(
    run: str,
    events: Iterable[Mapping[str, Any]],
    *,
    head: str | None = None,
    seen: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    check: Check | None = None,
    plan: str | None = None,
) -> Verdict:
    """Walk a log and see whether each event names the one before it, and each tree head the tree before it.

    Args:
        head: the digest of an event that was seen earlier, which must still be there.
        seen: tree heads or receipts that were seen earlier, one or several: the first `size` events of each must still
            be there, under its `root`.
        check: says what is wrong with the signature of a tree head; None looks at none.
        plan: the digest of the plan that the run is said to have, which the log must name if it names any.
    """
    count = unlinked = heads = covered = 0
    last, head_seen, kept = opening(run), head is None, [seen] if isinstance(seen, Mapping) else seen
    tree, problems, planned = Frontier(), list[str](), None
    roots = dict[Any, str]({one.get("size"): "" for one in kept})
    for event in events:
        planned = named_plan([event]) or planned
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
        if tree.size in roots:
            roots[tree.size] = tree.root
    if not head_seen:
        problems.append(f"no event has the digest {head}: the log was cut off, or is another one")
    problems += [
        f"the first {one.get('size')} events of run {run} do not have the root {one.get('root')} that was seen: "
        "the log was cut off or written anew, or is another one"
        for one in kept
        if one.get("run") != run or one.get("root") != roots[one.get("size")]
    ]
    wrong = None if plan is None else why_another_plan(planned, plan)
    problems += [] if wrong is None else [wrong]
    return Verdict(count, last, unlinked, problems[0] if problems else None, tree.root, heads, covered, planned)


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
    parser.add_argument("--seen", help="a file with tree heads or receipts that were seen earlier, one a line")
    parser.add_argument("--plan", help="the run's plan as JSON, as umbel audit export --plan writes it")
    trusted = parser.add_mutually_exclusive_group()
    trusted.add_argument("--key", help="the public key that signs, 64 hexadecimal digits")
    trusted.add_argument("--ca", help="the file of the server's CA certificate")
    code, text = _looked(parser.parse_args(arguments))
    sys.stdout.write(text + "\n")
    return code


def _looked(asked: argparse.Namespace) -> tuple[int, str]:
    """The exit code, and what to say."""
    try:
        events = read_log(asked.run, _bytes(asked.log))
        kept = [] if asked.seen is None else read_seen(_bytes(asked.seen))
        plan = None if asked.plan is None else _plan(_bytes(asked.plan))
        check = _check(asked.key, asked.ca)
    except (OSError, ValueError, RecursionError, ImportError) as error:
        return 1, f"this cannot be read: {error}"
    own = [one for one in kept if one.get("run") == asked.run]
    if asked.seen is not None and not own:
        return 1, f"{asked.seen} holds nothing of run {asked.run}, and {len(kept)} statements of other runs"
    if not events:
        return 1, f"the log of run {asked.run} has no events: nothing can be said of it"
    verdict = verify(asked.run, events, head=asked.head, seen=own, check=check, plan=plan)
    good = verdict.problem is None and (check is None or verdict.tree_heads > 0)
    text = told(verdict, is_checked=check is not None)
    if verdict.problem is None:
        text += _beside(verdict, plan, skipped=len(kept) - len(own))
    return (0 if good else 1), text


def _beside(verdict: Verdict, plan: str | None, *, skipped: int) -> str:
    """What else is to be said of a log in which nothing is wrong."""
    told = f"\n{skipped} statements of other runs were skipped" if skipped else ""
    if verdict.plan is None:
        return told + "\nthe plan is in no event: an earlier version wrote them"
    return told + ("\nthe plan is the one that the log names" if plan else f"\nthe plan has the digest {verdict.plan}")


def _check(key: str | None, ca: str | None) -> Check | None:
    """What looks at signatures, if a key or a CA is named.

    Raises:
        ValueError: they are none.
        ImportError: `cryptography` is not installed.
    """
    if key is None and ca is None:
        return None
    if key is not None and (len(key) != 64 or set(key) - set("0123456789abcdef")):
        raise ValueError(f"--key is an Ed25519 public key, 64 digits of 0-9 and a-f, got {key!r}")
    try:
        return signatures(key=key, ca_pem=None if ca is None else _bytes(ca))
    except ImportError:
        raise ImportError("signatures need the package cryptography, which is not installed") from None
    except ValueError:
        raise ValueError(f"{ca} is no certificate in PEM; --ca is the server's ca.crt") from None


def _plan(data: bytes) -> str:
    plan: Any = json.loads(data)
    if not isinstance(plan, dict):
        raise ValueError("the plan is no JSON object")
    return digest(plan)  # pyright: ignore[reportUnknownArgumentType]


def read_seen(data: bytes) -> list[dict[str, Any]]:
    """Tree heads and receipts in a file: one as JSON, or one a line, as a node keeps them.

    Raises:
        ValueError: something else is in it.
    """
    text, found = data.decode(), list[Any]()
    try:
        found = [json.loads(text)]
    except ValueError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(one, dict) and _may_be_seen(one) for one in found):  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError("among what was kept is something that is no tree head and no receipt")
    return found


def _may_be_seen(one: Mapping[str, Any]) -> bool:
    return isinstance(one.get("run"), str) and type(one.get("size")) is int and isinstance(one.get("root"), str)


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
