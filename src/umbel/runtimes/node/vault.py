"""What a node keeps for its client between the steps of a secure round, and never sends: keys, seeds, shares."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, final

from umbel.errors import ClientError
from umbel.message import Ask, Update
from umbel.privacy.tries import leadership_of
from umbel.runtimes.halves import CIPHERED, SECURED
from umbel.runtimes.node.enrolled import identity_in, pinning, trusts_of
from umbel.runtimes.node.opened_sums import OpenedSums
from umbel.strategy import Strategy

if TYPE_CHECKING:
    from umbel.privacy.sa1.party import Party
    from umbel.privacy.sa1.sets import Sets
    from umbel.runtimes.node.ciphers import Ciphers

ATTEMPT_STEPS = 8
"""To its node each step of a secure round is an attempt of its own: attempt · 8 + step."""
Place: TypeAlias = "tuple[str, str, int, int]"


def is_later_step(own: Mapping[str, Any]) -> bool:
    """Whether an ask goes on with a secure round that was begun."""
    return own.get("step", "advertise") != "advertise"


def vault_for(strategy: Strategy, name: str, plan: Mapping[str, Any]) -> Vault | Ciphers | None:
    """A vault, if the strategy is one of secure rounds.

    Args:
        plan: with the identity that the node made for this run, if it is enrolled, and its owner's floors.
    """
    kind = type(strategy).__name__
    if kind not in (SECURED, CIPHERED):
        return None
    from umbel.runtimes.node.ciphers import ciphers_for

    made = ciphers_for if kind == CIPHERED else Vault
    from umbel.privacy.sa1.party import Floors, Party

    floors = Floors(**plan.get("floors", {}))
    # Noise that is new in each answer hides it in the difference of two sums, too.
    private: Any = getattr(getattr(strategy, "inner", None), "plan", None)
    is_new = getattr(private, "noise", "server") != "server"
    identity = identity_in(plan)
    if identity is None:
        return made(Party(name=name, secret=os.urandom(32), trusts=pinning(), floors=floors), is_new=is_new)
    trusts = trusts_of(str(plan["run"]), identity["ca"])
    secret, credential = identity["secret"], identity["credential"]
    return made(Party(name=name, secret=secret, trusts=trusts, credential=credential, floors=floors), is_new=is_new)


@final
class Vault:
    """The members of rounds under way, in memory: a node that is killed has dropped out of them, and releases nothing.

    An enrolled node's identity is vouched for by its certificate, and so have to be those of others. Without enrolment
    identities are pinned where they are first seen: this holds against a server that is curious, not against one that
    plays clients of its own from the first round on.

    Args:
        party: the client as its owner set it up.
        is_new: whether the client's vector is another one each time, as its own noise is in it.
    """

    def __init__(self, party: Party, *, is_new: bool = False) -> None:
        self.party, self._is_new = party, is_new
        self._members: dict[Place, bytes] = {}
        self._opened = OpenedSums(party.floors.min_cohort)
        self._names: dict[Place, list[str]] = {}
        """Of the round's clients, in the order of its header."""
        self._last: dict[tuple[str, str], tuple[int, int]] = {}
        self._led: dict[str, int] = {}
        """Of each run, which leadership made the offer that was taken last."""

    def filled(self, run: str, ask: Ask) -> Ask:
        """The ask with what the node adds, which the server cannot say."""
        place = _place(run, ask)
        own: dict[str, Any] = {key: ask.own.get(key) for key in ("step", "message", "words")}
        if not isinstance(own["step"], str) or not isinstance(own["message"], bytes):
            raise ClientError(ask.client, "a secure round's ask names its step and brings a message")
        if own["step"] == "advertise":
            self._check_offer(ask.client, place, own["message"])
            own["last"] = self._last.get(place[:2])
        elif place in self._members:
            own["member"] = self._members[place]
            if own["step"] == "agree":
                self._check_sum(ask.client, place, own["message"])
        else:
            raise ClientError(ask.client, "this node does not know of the secure round; it may have been started anew")
        return replace(ask, own={**own, "party": self.party})

    def emptied(self, run: str, ask: Ask, update: Update) -> Update:
        """The answer without what the node keeps. It is kept before the answer leaves."""
        place, own = _place(run, ask), dict(update.own)
        member = own.pop("member")
        if ask.own["step"] == "advertise":
            self._last[place[:2]], self._led[run] = place[2:], leadership_of(place[3])
            # Whatever was under way is over: no step of it is taken any more, and its secrets are of use to nobody.
            self._members = {other: kept for other, kept in self._members.items() if other[0] != run}
            self._names = {other: kept for other, kept in self._names.items() if other[0] != run}
        elif ask.own["step"] == "share":
            self._names[place] = _names_in(ask.own["message"])
        elif ask.own["step"] == "release":
            self._note_sum(place, member)
        self._members[place] = member
        return replace(update, own=own)

    def _check_sum(self, client: str, place: Place, message: bytes) -> None:
        """Refuse a sum whose difference to one that was opened would show what single clients sent.

        Raises:
            ClientError: says which it must not be.
            ProtocolError: the message is none of this step.
        """
        from umbel.privacy.sa1.member import Member
        from umbel.privacy.sa1.sets import Sets

        member = Member.read(self._members[place])
        found = Sets.read(message, member.clients)
        reason = self._opened.why_not((*place[:2], member.offer.model), self._named(place, found))
        if reason is not None and not self._is_new:
            raise ClientError(client, reason)

    def _note_sum(self, place: Place, data: bytes) -> None:
        from umbel.privacy.sa1.member import Member

        member = Member.read(data)
        if member.sets is not None:
            self._opened.add((*place[:2], member.offer.model), self._named(place, member.sets))

    def _named(self, place: Place, sets: Sets) -> frozenset[str]:
        return frozenset(self._names[place][index] for index in sets.summed)

    def _check_offer(self, client: str, place: Place, message: bytes) -> None:
        """Refuse an offer of another turn than the one that is asked, which would be known by the wrong name.

        Raises:
            ClientError: names both.
            ProtocolError: it is no offer.
        """
        from umbel.privacy.sa1.offer import Offer

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


def _names_in(header: bytes) -> list[str]:
    from umbel.privacy.sa1.offer import Header

    return [advert.name for advert in Header.read(header).adverts]


def _place(run: str, ask: Ask) -> Place:
    return run, ask.kind, ask.task.round, ask.attempt // ATTEMPT_STEPS
