"""Which encrypted sums a node's client signs. This stands in the node's process, which has none of the keys."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias, final

from umbel.errors import ProtocolError
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.opened_sums import Members, RunSums
from umbel.runtimes.node.vault import ATTEMPT_STEPS

if TYPE_CHECKING:
    from umbel.privacy.ckks.offer import Header

KEPT_HEADERS = 4
Place: TypeAlias = "tuple[str, int, int]"


@final
class SignedSums:
    """What a client has signed to be in a sum may be opened from then on, by any of its clients.

    So of sums over one model no second one is signed that would show single clients by its difference.
    """

    def __init__(self, opened: RunSums) -> None:
        self._opened = opened
        self._headers: OrderedDict[Place, Header] = OrderedDict()

    def why_not(self, letter: Letter) -> str | None:
        """Why a step is not taken.

        Raises:
            ProtocolError: the message is none of this step.
        """
        if letter.own.get("step") != "agree":
            return None
        if _place(letter) not in self._headers:
            return "this node does not know of the secure round; it may have been started anew"
        return self._opened.why_not(*self._about(letter))

    def worked(self, letter: Letter) -> None:
        """A step was taken, and its answer has not left. Who is in a sum is what the client's process took for it.

        Raises:
            StoreError: what was signed cannot be remembered.
        """
        from umbel.privacy.ckks.offer import Header
        from umbel.privacy.sa1.fields import parted

        if letter.own.get("step") == "encrypt":
            self._headers[_place(letter)] = Header.read(parted(_message(letter), 4)[0])
            while len(self._headers) > KEPT_HEADERS:
                self._headers.popitem(last=False)
        elif letter.own.get("step") == "agree":
            self._opened.add(*self._about(letter))

    def _about(self, letter: Letter) -> tuple[str, bytes, Members]:
        from umbel.privacy.sa1.sets import Sets

        header = self._headers[_place(letter)]
        names = [advert.name for advert in header.adverts]
        summed = Sets.read(_message(letter), len(names)).summed
        return letter.kind, header.offer.model, frozenset(names[index] for index in summed)


def _place(letter: Letter) -> Place:
    return letter.kind, letter.round, letter.attempt // ATTEMPT_STEPS


def _message(letter: Letter) -> bytes:
    message = letter.own.get("message")
    if not isinstance(message, bytes):
        raise ProtocolError("a secure round's ask brings a message")
    return message
