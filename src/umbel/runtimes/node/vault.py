"""What a node keeps for its client in the secure sums of a run, and never sends: keys, seeds, shares.

All but training happens here, in the node's own process: that of the client is given the masks of one vector.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from umbel.errors import ClientError
from umbel.message import Ask
from umbel.runtimes.halves import check_cryptography, is_masked, sharing_in
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.enrolled import identity_in, pinning, trusts_of
from umbel.runtimes.node.opened_sums import OpenedSums, RunSums
from umbel.runtimes.node.promises import hides_clients

if TYPE_CHECKING:
    from umbel.privacy.sa1.member import Member
    from umbel.privacy.sa1.party import Floors, Party
    from umbel.privacy.sa1.purpose import Purpose
    from umbel.privacy.sa1.replies import Kept
    from umbel.privacy.sa1.sets import Sets

ATTEMPT_STEPS = 8
"""To its node each step of a secure round is an attempt of its own: attempt · 8 + step."""
LIGHT = frozenset({"advertise", "share", "agree", "release", "deal", "open"})
LONG = frozenset({"mask", "encrypt"})


def is_light_step(letter: Letter) -> bool:
    """Whether an ask is a step of a secure round for which no client works, and not another kind that says so."""
    return is_step(letter) and _step_in(letter.own) in LIGHT


def is_step(ask: Letter | Ask) -> bool:
    """Whether an ask is any step of a secure round."""
    return ask.kind in ("fit", "evaluate") and _step_in(ask.own) in LIGHT | LONG


def _step_in(own: Mapping[str, Any]) -> str:
    """What a server called the step; nothing if it is no word."""
    step = own.get("step")
    return step if isinstance(step, str) else ""


def vault_for(run: str, name: str, plan: Mapping[str, Any], opened: OpenedSums) -> Vault | None:
    """A vault, if the plan is one of sums that clients mask.

    Args:
        plan: with the identity that the node made for this run, if it is enrolled, and its owner's floors.
        opened: the sums of all runs.

    Raises:
        NotSupported: the plan's noise cannot be told, or the package `cryptography` is not there.
    """
    if not is_masked(plan):
        return None
    check_cryptography()
    party = party_for(run, name, plan)
    return Vault(run, party, opened.for_run(least=party.floors.min_cohort, is_hidden=hides_clients(plan)))


def floors_in(plan: Mapping[str, Any]) -> Floors:
    """What the client's owner insists on; the node has put it into the plan."""
    from umbel.privacy.sa1.party import Floors

    return Floors(**plan.get("floors", {}))


def party_for(run: str, name: str, plan: Mapping[str, Any]) -> Party:
    """The client as its owner set it up, for one run.

    Args:
        plan: as for `vault_for`.
    """
    from umbel.privacy.sa1.party import Party

    known: dict[str, Any] = {"floors": floors_in(plan), "sharing": sharing_in(plan)}
    identity = identity_in(plan)
    if identity is None:
        known |= {"secret": os.urandom(32), "trusts": pinning()}
    else:
        known |= {"secret": identity["secret"], "credential": identity["credential"]}
        known["trusts"] = trusts_of(run, identity["ca"])
    return Party(name=name, **known)


@final
class Vault:
    """The client's part in a run's sums, in memory: a node that is killed has dropped out, and releases nothing.

    An enrolled node's identity is vouched for by its certificate, and so have to be those of others. Without enrolment
    identities are pinned where they are first seen: this holds against a server that is curious, not against one that
    plays clients of its own from the first round on.

    Args:
        party: the client as its owner set it up.
        opened: what this run may open.
    """

    def __init__(self, run: str, party: Party, opened: RunSums) -> None:
        from umbel.privacy.sa1.replies import Kept

        self._run, self.party, self._opened = run, party, opened
        self._kept: Kept = Kept()
        self._last: tuple[int, int] | None = None
        """Of the offer that was taken last: who led, and its number."""

    def answer(self, letter: Letter) -> dict[str, Any]:
        """What is answered to a step for which no client works. It is kept before the answer leaves.

        Raises:
            ClientError, ProtocolError: the step cannot be taken.
        """
        from umbel.privacy.sa1.replies import replied

        step, own = self._own(letter)
        if step in ("agree", "release") and self._kept.member is not None:
            _check_turn(letter, self._kept.member.about)
        kept, told = replied(self.party, self._kept, own, last=self._last, why_not=self._why_not)
        if step == "release" and kept.member is not None:
            self._open(kept.member)
        self._keep(kept)
        return told

    def masks(self, letter: Letter) -> dict[str, Any]:
        """What the client's process needs to mask its vector, once, and what it is to send with it.

        Raises:
            ClientError, ProtocolError: the step cannot be taken.
        """
        from umbel.privacy.sa1.masking import purpose_in
        from umbel.privacy.sa1.replies import received
        from umbel.privacy.sa1.secured import digest_from

        step, own = self._own(letter)
        if step != "mask":
            raise ClientError(letter.client, f"a sum under masks has no step {step!r}")
        _check_turn(letter, purpose_in(own["message"]))
        model = digest_from(letter.model, letter.extra, letter.config, letter.shared)
        kept, masks, told = received(self.party, self._kept, own, model, last=self._last, why_not=self._why_not)
        self._keep(kept)
        return {"masks": masks.data, "told": told}

    def _own(self, letter: Letter) -> tuple[str, dict[str, Any]]:
        """The step, and what a server may say in it."""
        own: dict[str, Any] = {key: letter.own.get(key) for key in ("step", "message", "ahead")}
        if not isinstance(own["step"], str) or not isinstance(own["message"], bytes):
            raise ClientError(letter.client, "a secure round's ask names its step and brings a message")
        if own["step"] == "advertise":
            self._check_run(letter.client, own["message"])
        return own["step"], own

    def _check_run(self, client: str, message: bytes) -> None:
        """Refuse an offer of another run, whose identity this is not.

        Raises:
            ClientError: names both.
            ProtocolError: it is no offer.
        """
        from umbel.privacy.sa1.offer import Offer

        found = Offer.read(message).run
        if found != self._run:
            raise ClientError(client, f"the offer is of run {found!r}, and the ask of {self._run!r}")

    def _keep(self, kept: Kept) -> None:
        self._kept = kept
        orders = [one.offer.order for one in (kept.member, kept.ahead) if one is not None]
        self._last = max([*orders, *([] if self._last is None else [self._last])])

    def _why_not(self, member: Member, sets: Sets) -> str | None:
        """Why a sum is not to be opened whose difference to one that was opened would show what single clients sent."""
        return self._opened.why_not(member.about.kind, member.about.model, _named(member, sets))

    def _open(self, member: Member) -> None:
        """Look again, as other runs may have come so far meanwhile, and remember the sum.

        Raises:
            ClientError: says why it is not to be opened.
            StoreError: it cannot be remembered.
        """
        from umbel.privacy.sa1.sets import Sets

        sets = member.sets or Sets.full(member.clients)
        reason = self._why_not(member, sets)
        if reason is not None:
            raise ClientError(self.party.name, reason)
        self._opened.add(member.about.kind, member.about.model, _named(member, sets))


def _named(member: Member, sets: Sets) -> frozenset[str]:
    return frozenset(member.names[index] for index in sets.summed)


def _check_turn(letter: Letter, about: Purpose) -> None:
    """Refuse a sum of another turn than the one that is asked, which would be known by the wrong name.

    Raises:
        ClientError: names both.
    """
    asked = (letter.kind, letter.round, letter.attempt // ATTEMPT_STEPS)
    if (about.kind, about.round, about.attempt) != asked:
        raise ClientError(
            letter.client,
            f"the sum is of {about.kind} in round {about.round}, attempt {about.attempt}, and the ask of {asked[0]} in "
            f"round {asked[1]}, attempt {asked[2]}; a server sends that of the turn that it asks",
        )
