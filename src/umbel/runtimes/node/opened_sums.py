"""Whose sums a node has helped to open: of two sums over the same model the difference must not be one client's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from hashlib import sha256
from typing import Protocol, TypeAlias, final

Members: TypeAlias = "frozenset[str]"
"""The names of the clients in a sum, for which their identities vouch."""

KEPT_SUMS, KEPT_SUM_BYTES = 4096, 16 * 2**20
"""So many sums are remembered, and names of so many bytes; older ones are a server's that goes back far."""


class SumBook(Protocol):
    """Where sums are kept, for the life of the data."""

    def sums(self, about: bytes) -> Collection[Members]:
        """Who was in the sums over what has this digest."""
        ...

    def add_sum(self, about: bytes, members: Members) -> None:
        """Keep one more, durably: nothing that opens it has left before."""
        ...


@final
class MemorySums:
    """Keeps sums in this process: a script's client, which ends with it."""

    def __init__(self) -> None:
        self._sums: OrderedDict[tuple[bytes, Members], None] = OrderedDict()

    def sums(self, about: bytes) -> Collection[Members]:
        return [members for other, members in self._sums if other == about]

    def add_sum(self, about: bytes, members: Members) -> None:
        self._sums[about, members] = None
        self._sums.move_to_end((about, members))
        while len(self._sums) > KEPT_SUMS:
            self._sums.popitem(last=False)


@final
class OpenedSums:
    """A server that opens a sum twice, with a client fewer the second time, learns that client's update.

    It may have been killed in between, or begin another run. This stands in the node, not in the process of a run's
    client: it sees all runs, and is there for the life of the data.

    Args:
        book: where sums are kept; None keeps them in this process.
    """

    def __init__(self, book: SumBook | None = None) -> None:
        self._book: SumBook = MemorySums() if book is None else book

    def for_run(self, *, least: int, is_hidden: bool) -> RunSums:
        """As a run of secure rounds looks at them.

        Args:
            least: as many clients at least have to be in the difference of two sums, if any.
            is_hidden: whether each update has so much noise of its client's own that it is another vector each time.
        """
        return RunSums(self._book, max(2, least), is_hidden=is_hidden)


@final
class RunSums:
    """What a run may open; the sums of all runs count."""

    def __init__(self, book: SumBook, least: int, *, is_hidden: bool) -> None:
        self._book, self._least, self._is_hidden = book, least, is_hidden

    def why_not(self, kind: str, model: bytes, members: Members) -> str | None:
        """Why no sum of these may be opened.

        Args:
            kind: of the ask.
            model: digest of all that the clients are sent, in whatever run: the same again gives the same vectors, but
                for what clients draw at random.
        """
        if kind == "fit" and self._is_hidden:
            return None  # an evaluation has no noise
        for other in self._book.sums(_about(kind, model)):
            differ = len(other ^ members)
            if 0 < differ < self._least:
                return (
                    f"a sum over the same model was opened, and this one differs from it in {differ} of its clients, "
                    "whose updates the difference would show; the same clients can open it again, or such as differ in "
                    f"{self._least} and more; a new run can begin from another model"
                )
        return None

    def add(self, kind: str, model: bytes, members: Members) -> None:
        """Remember a sum, before anything leaves that opens it.

        Raises:
            StoreError: it cannot be kept.
        """
        self._book.add_sum(_about(kind, model), members)


def _about(kind: str, model: bytes) -> bytes:
    return sha256(kind.encode() + b"\0" + model).digest()
