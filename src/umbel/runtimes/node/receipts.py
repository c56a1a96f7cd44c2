"""`ReceiptBook`: the receipts that a node was given, in a small file at the data owner's."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

from umbel.audit.receipt import read_receipt, receipt_bytes, why_no_receipt
from umbel.errors import ConfigError, StoreError
from umbel.stores.link import Check, signatures
from umbel.wire.packets import Settled

FILE = "receipts.jsonl"
MOST_BYTES = 16 * 2**20
REMEMBERED = 100


def check_of(ca_pem: bytes | None) -> Check | None:
    """What looks at the signatures of receipts; None if `cryptography` is not installed."""
    try:
        return signatures(ca_pem=ca_pem, message=receipt_bytes)
    except ImportError:
        return None


@final
class ReceiptBook:
    """Keeps receipts as they came, one a line, the newest last. Only this user may read the file.

    When it is full, it becomes the file ".old", and what was that is forgotten.

    Args:
        check: says what is wrong with a receipt's signature; None looks at none.
        most_bytes: how long the file may become.
    """

    def __init__(self, path: Path, check: Check | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        self.path, self._check, self._most_bytes = path, check, most_bytes
        self._stands: OrderedDict[tuple[str, int], str] = OrderedDict()

    def settled(self, event: Settled, client: str, card: str | None, sent: Collection[str] | None) -> str | None:
        """As `take`, of an answer's receipt as it came.

        Args:
            client, card: who this node is, and the digest of its data card.
        """
        expected: dict[str, Any] = {name: getattr(event, name) for name in ("run", "round", "attempt")}
        try:
            return self.take(bytes(event.receipt), {**expected, "client": client, "card": card}, sent)
        except StoreError as error:
            return str(error)

    def take(self, data: bytes, expected: Mapping[str, Any], sent: Collection[str] | None = None) -> str | None:
        """Keep a receipt, even a wrong one: it is evidence.

        Args:
            expected: what has to be in it, by name; None is nothing.
            sent: the seals of what this node has sent, of which it has to name one; None is not known.

        Returns:
            what is wrong with it, in a sentence.

        Raises:
            StoreError: it cannot be kept.
        """
        try:
            receipt = read_receipt(data)
        except ConfigError as error:
            return str(error)
        self._append(data)
        wrong = next((name for name, value in expected.items() if receipt.get(name) != value), None)
        if wrong is not None:
            return f"it says {wrong}={receipt.get(wrong)!r}, which is {expected[wrong]!r} here"
        if sent is not None and receipt["update"] not in sent:
            return f"it says update={receipt['update']!r}, and nothing that was sent here has this seal"
        problem = why_no_receipt(receipt, self._check)
        return f"it {problem}" if problem else self._told_apart(receipt)

    def _told_apart(self, receipt: Mapping[str, Any]) -> str | None:
        key, root = (receipt["run"], receipt["size"]), receipt["root"]
        before = self._stands.setdefault(key, root)
        while len(self._stands) > REMEMBERED:
            self._stands.popitem(last=False)
        if before == root:
            return None
        return f"it says that the first {key[1]} events have the root {root}, and an earlier one said {before}"

    def _append(self, data: bytes) -> None:
        line = data.replace(b"\n", b" ") + b"\n"
        try:
            if self.path.exists() and self.path.stat().st_size + len(line) > self._most_bytes:
                os.replace(self.path, self.path.with_name(self.path.name + ".old"))
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "ab") as file:
                file.write(line)
        except OSError as error:
            raise StoreError(f"a receipt cannot be kept in {self.path}: {error.strerror}; free some space") from error
