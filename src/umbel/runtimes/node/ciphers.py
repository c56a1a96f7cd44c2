"""What a node keeps for its client between the steps of an encrypted round, and never sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias, final

from umbel.errors import ClientError
from umbel.message import Ask, Group, Update
from umbel.privacy.ckks.ciphered import CARRIED, CARRIES, carried
from umbel.privacy.ckks.offer import Offer
from umbel.privacy.ckks.tenseal import library
from umbel.privacy.sa1.party import Party
from umbel.privacy.tries import leadership_of
from umbel.runtimes.node.vault import ATTEMPT_STEPS, party_for

Place: TypeAlias = "tuple[str, str, int, int]"


def ciphers_for(run: str, name: str, plan: Mapping[str, Any]) -> Ciphers:
    """What a node keeps in a run whose clients encrypt.

    Args:
        plan: with the identity that the node made for this run, if it is enrolled, and its owner's floors.

    Raises:
        ConfigError: nothing can be encrypted here.
    """
    library()
    return Ciphers(party_for(run, name, plan))


@final
class Ciphers:
    """The members of encrypted sums under way, in memory: a node that is killed has dropped out of them.

    What is opened is tried once. Which sums are signed at all the node itself watches (`SignedSums`).

    Args:
        party: the client as its owner set it up.
    """

    def __init__(self, party: Party) -> None:
        self.party = party
        self._members: dict[Place, bytes] = {}
        self._last: dict[tuple[str, str], tuple[int, int]] = {}
        self._led: dict[str, int] = {}
        """Of each run, which leadership made the offer that was taken last."""

    def filled(self, run: str, ask: Ask) -> Ask:
        """The ask with what the node adds, which the server cannot say."""
        place, step = _place(run, ask), ask.own.get("step")
        own: dict[str, Any] = {"step": step, "message": ask.own.get("message")}
        if not isinstance(step, str) or not isinstance(own["message"], bytes):
            raise ClientError(ask.client, "a secure round's ask names its step and brings a message")
        if step == "advertise":
            self._check_offer(ask.client, place, own["message"])
            own["last"] = self._last.get(place[:2])
        elif place not in self._members:
            raise ClientError(ask.client, "this node does not know of the secure round; it may have been started anew")
        elif step == "open":
            # Before it is tried: who may try again and again learns of the key from what is refused.
            own["member"] = self._members.pop(place)
        else:
            own["member"] = self._members[place]
        return replace(ask, own={**own, "party": self.party})

    def emptied(self, run: str, ask: Ask, update: Update) -> Update:
        """The answer without what the node keeps. It is kept before the answer leaves."""
        place, step, own, groups = _place(run, ask), ask.own["step"], dict(update.own), update.groups
        member = own.pop("member")
        if step == "advertise":
            self._last[place[:2]], self._led[run] = place[2:], leadership_of(place[3])
            # Whatever was under way is over: no step of it is taken any more, and its keys are of use to nobody.
            self._members = {other: kept for other, kept in self._members.items() if other[0] != run}
        if step != "open":
            self._members[place] = member
        if step in CARRIES:
            groups = {CARRIED: Group(carried(own.pop("message")), 1.0)}
        return replace(update, own=own, groups=groups)

    def _check_offer(self, client: str, place: Place, message: bytes) -> None:
        """Refuse an offer of another turn than the one that is asked, or of a server that leads no more.

        Raises:
            ClientError: says which.
            ProtocolError: it is no offer.
        """
        run, kind, number, attempt = place
        found = Offer.read(message)
        if (found.run, found.round, found.attempt) != (f"{run}/{kind}", number, attempt):
            raise ClientError(
                client,
                f"the offer is for round {found.round}, attempt {found.attempt} of {found.run!r}, and the ask for "
                f"round {number}, attempt {attempt} of '{run}/{kind}'; a server sends that of the turn that it asks",
            )
        if leadership_of(attempt) < self._led.get(run, 0):
            raise ClientError(
                client,
                "another server leads the run since, and this one's offers are taken no more; if it was set up again "
                "from a backup, restart the nodes",
            )


def _place(run: str, ask: Ask) -> Place:
    return run, ask.kind, ask.task.round, ask.attempt // ATTEMPT_STEPS
