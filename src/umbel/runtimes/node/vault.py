"""What a node keeps for its client between the steps of a secure round, and never sends: keys, seeds, shares."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, final

from umbel.errors import ClientError
from umbel.message import Ask, Update
from umbel.privacy.tries import leadership_of
from umbel.runtimes.halves import SECURED
from umbel.runtimes.node.enrolled import identity_in, pinning, trusts_of
from umbel.strategy import Strategy

if TYPE_CHECKING:
    from umbel.privacy.sa1.party import Party

ATTEMPT_STEPS = 8
"""To its node each step of a secure round is an attempt of its own: attempt · 8 + step."""
Place: TypeAlias = "tuple[str, str, int, int]"


def is_later_step(own: Mapping[str, Any]) -> bool:
    """Whether an ask goes on with a secure round that was begun."""
    return own.get("step", "advertise") != "advertise"


def vault_for(strategy: Strategy, name: str, plan: Mapping[str, Any]) -> Vault | None:
    """A vault, if the strategy is one of secure rounds.

    Args:
        plan: with the identity that the node made for this run, if it is enrolled, and its owner's floors.
    """
    if type(strategy).__name__ != SECURED:
        return None
    from umbel.privacy.sa1.party import Floors, Party

    floors = Floors(**plan.get("floors", {}))
    identity = identity_in(plan)
    if identity is None:
        return Vault(Party(name=name, secret=os.urandom(32), trusts=pinning(), floors=floors))
    trusts = trusts_of(str(plan["run"]), identity["ca"])
    secret, credential = identity["secret"], identity["credential"]
    return Vault(Party(name=name, secret=secret, trusts=trusts, credential=credential, floors=floors))


@final
class Vault:
    """The members of rounds under way, in memory: a node that is killed has dropped out of them, and releases nothing.

    An enrolled node's identity is vouched for by its certificate, and so have to be those of others. Without enrolment
    identities are pinned where they are first seen: this holds against a server that is curious, not against one that
    plays clients of its own from the first round on.

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
        place = _place(run, ask)
        own: dict[str, Any] = {key: ask.own.get(key) for key in ("step", "message", "words")}
        if not isinstance(own["step"], str) or not isinstance(own["message"], bytes):
            raise ClientError(ask.client, "a secure round's ask names its step and brings a message")
        if own["step"] == "advertise":
            self._check_offer(ask.client, place, own["message"])
            own["last"] = self._last.get(place[:2])
        elif place in self._members:
            own["member"] = self._members[place]
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
        self._members[place] = member
        return replace(update, own=own)

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


def _place(run: str, ask: Ask) -> Place:
    return run, ask.kind, ask.task.round, ask.attempt // ATTEMPT_STEPS
