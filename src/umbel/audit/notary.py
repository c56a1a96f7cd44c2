"""`Notary`: follows a run's log as it grows and signs its Merkle tree now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

from umbel.audit.contribution import Contribution
from umbel.audit.key import LogKey
from umbel.audit.receipt import write_receipts
from umbel.stores.link import TREE_HEAD, Frontier, digest, linked, opening, signed_bytes

EVERY = 1000
"""After how many events a tree is signed."""


@final
class Notary:
    """Knows the tree over the events of one run.

    Args:
        key: what signs.
        events: those that are in the log already.
        clock: Unix time.
        every: after how many events a tree head is due, at least 1.
    """

    def __init__(
        self,
        run: str,
        key: LogKey,
        events: Iterable[Mapping[str, Any]] = (),
        *,
        clock: Callable[[], float] = time.time,
        every: int = EVERY,
    ) -> None:
        self._run, self._key, self._clock, self._every = run, key, clock, every
        self._head, self._tree, self._unsigned = opening(run), Frontier(), 0
        for event in events:
            self._add(event)

    def noted(self, event: Mapping[str, Any]) -> tuple[int, str]:
        """Take in the event that was appended to the log, as it was given to the store.

        Returns:
            its index in the log, from 0, and its digest.
        """
        self._add(linked(event, self._head))
        return self._tree.size - 1, self._head

    def _add(self, event: Mapping[str, Any]) -> None:
        self._head = digest(event)
        self._tree.add(self._head)
        self._unsigned = 0 if event.get("kind") == TREE_HEAD else self._unsigned + 1

    @property
    def is_due(self) -> bool:
        """Whether so many events came since the last tree head that the next one should."""
        return self._unsigned >= self._every

    def stand(self) -> dict[str, Any]:
        """What a signature binds: run, size, root and head of the log as it is, and the time, a whole second."""
        at_s = int(self._clock())
        return {"run": self._run, "size": self._tree.size, "root": self._tree.root, "head": self._head, "at_s": at_s}

    def receipts(self, owed: Iterable[tuple[int, str, list[Contribution]]]) -> dict[tuple[str, int, int], bytes]:
        """Receipts for contributions, by whose they are and to which ask, bound to the log as it is.

        Args:
            owed: index and digest of a round's event, and all contributions that it lists.
        """
        stand = self.stand()
        return {
            one.place: receipt
            for index, event, listed in owed
            for one, receipt in zip(listed, write_receipts(self._key, stand, index, event, listed), strict=True)
        }

    def tree_head(self, round: int) -> dict[str, Any] | None:
        """The event that signs the log as it is; None if nothing is new in it."""
        if not self._unsigned:
            return None
        stand, key = self.stand(), self._key
        signed = {**stand, "key": key.public, "signature": key.sign(signed_bytes(stand))}
        signed |= {"certificate": key.certificate} if key.certificate else {}
        # Of which run it is, the log knows.
        del signed["run"]
        return {"kind": TREE_HEAD, "round": round, **signed}
