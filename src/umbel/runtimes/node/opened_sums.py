"""Whose sums a node has helped to open: of two sums over the same model the difference must not be one client's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Protocol, TypeAlias, final

from umbel.errors import ProtocolError
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.promises import hides_clients
from umbel.runtimes.node.vault import ATTEMPT_STEPS, Place

Members: TypeAlias = "frozenset[str]"
"""The names of the clients in a sum, for which their identities vouch."""

KEPT_SUMS, KEPT_SUM_BYTES = 4096, 16 * 2**20
"""So many sums are remembered, and names of so many bytes; older ones are a server's that goes back far."""
KEPT_RUNS = 64


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
@dataclass(frozen=True)
class _Round:
    """A secure round under way.

    Attributes:
        about: digest of the kind of ask and of all that the clients are sent, in whatever run: the same again gives the
            same vectors, but for what clients draw at random.
        names: of the round's clients, in the order of its header.
        members: who is in the sum that this node has agreed to.
    """

    place: Place
    about: bytes
    names: tuple[str, ...]
    members: Members | None = None


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
        self._least: dict[str, int] = {}
        self._hidden: set[str] = set()
        self._rounds: OrderedDict[str, _Round] = OrderedDict()

    def begin(self, run: str, plan: Mapping[str, Any], floors: Mapping[str, float]) -> None:
        """A run of secure rounds is taken part in.

        Args:
            floors: the owner's, by the names of `umbel.privacy.sa1.party.Floors`.
        """
        from umbel.privacy.sa1.party import Floors

        self._least[run] = max(2, Floors(**floors).min_cohort)  # pyright: ignore[reportArgumentType]
        (self._hidden.add if hides_clients(plan) else self._hidden.discard)(run)

    def why_not(self, letter: Letter) -> str | None:
        """Why a step is not taken, as it would help to open a sum that must not be."""
        step = letter.own.get("step")
        if letter.kind not in ("fit", "evaluate") or step not in ("agree", "release"):
            return None
        known = self._rounds.get(letter.run)
        if known is None or known.place != _place(letter):
            return "this node does not know of the secure round; it may have been started anew"
        members = _members(known, letter) if step == "agree" else known.members
        if members is None:
            return None  # whoever plays the step says what is wrong with it
        # What has noise of the clients' own is another vector each time; an evaluation has none.
        if letter.kind == "fit" and letter.run in self._hidden:
            return None
        return self.why_not_over(known.about, members, self._least.get(letter.run, 2))

    def why_not_over(self, about: bytes, members: Members, least: int) -> str | None:
        """Why no sum of these may be opened, where differences are to be of `least` clients."""
        for other in self._book.sums(about):
            differ = len(other ^ members)
            if 0 < differ < least:
                return (
                    f"a sum over the same model was opened, and this one differs from it in {differ} of its clients, "
                    "whose updates the difference would show; the same clients can open it again, or such as differ in "
                    f"{least} and more; a new run can begin from another model"
                )
        return None

    def worked(self, letter: Letter) -> None:
        """A step was taken, and its answer has not left.

        Raises:
            StoreError: what has to be kept before it leaves cannot be.
        """
        step = letter.own.get("step")
        if letter.kind not in ("fit", "evaluate") or not isinstance(step, str):
            return
        known = self._rounds.get(letter.run)
        if step == "advertise":
            self._rounds.pop(letter.run, None)
        elif step == "share":
            self._rounds[letter.run] = _begun(letter)
            self._rounds.move_to_end(letter.run)
            while len(self._rounds) > KEPT_RUNS:
                self._rounds.popitem(last=False)
        elif step == "agree" and known is not None:
            self._rounds[letter.run] = replace(known, members=_members(known, letter))
        elif step == "release" and known is not None and known.members is not None:
            self._book.add_sum(known.about, known.members)


def _place(letter: Letter) -> Place:
    return letter.run, letter.kind, letter.round, letter.attempt // ATTEMPT_STEPS


def _begun(letter: Letter) -> _Round:
    from umbel.privacy.sa1.offer import Header

    header = Header.read(letter.own["message"])
    about = sha256(letter.kind.encode() + b"\0" + header.offer.model).digest()
    return _Round(_place(letter), about, tuple(advert.name for advert in header.adverts))


def _members(known: _Round, letter: Letter) -> Members | None:
    from umbel.privacy.sa1.sets import Sets

    try:
        found = Sets.read(letter.own["message"], len(known.names))
    except (ProtocolError, KeyError, TypeError):
        return None
    return frozenset(known.names[index] for index in found.summed)
