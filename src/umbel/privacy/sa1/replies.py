"""The client's side of a conversation: what it remembers between asks, and what it answers to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, final

from umbel.errors import ClientError, ProtocolError, SecureRefused
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.joining import advertise, share
from umbel.privacy.sa1.masking import agree, receive, release, sign_early
from umbel.privacy.sa1.masks import Masks
from umbel.privacy.sa1.member import Member
from umbel.privacy.sa1.offer import Offer
from umbel.privacy.sa1.party import Party
from umbel.privacy.sa1.sets import Sets

Last: TypeAlias = "tuple[int, int]"


@final
@dataclass(frozen=True)
class Kept:
    """What a client remembers between asks, which nobody else sees.

    Attributes:
        member: its part in the sum under way; None before the first.
        ahead: its part in the next one, as far as that is.
    """

    member: Member | None = None
    ahead: Member | None = None

    @property
    def data(self) -> bytes:
        """The bytes from which `read` makes it again."""
        return joined(*(b"" if one is None else one.data for one in (self.member, self.ahead)))

    @classmethod
    def read(cls, data: bytes) -> Kept:
        """What was kept; nothing from no bytes."""
        if not data:
            return cls()
        return cls(*(Member.read(part) if part else None for part in parted(data, 2)))


def may_open(member: Member, sets: Sets) -> str | None:
    """Nothing speaks against any sum that the protocol lets a client open."""
    return None


def replied(
    party: Party,
    kept: Kept,
    own: Mapping[str, Any],
    *,
    last: Last | None = None,
    why_not: Callable[[Member, Sets], str | None] = may_open,
) -> tuple[Kept, dict[str, Any]]:
    """The answer to any step but "mask".

    Args:
        own: the ask's, as `Conversation.go_on` made it, with its step.
        last: of the offer that was taken last.
        why_not: why the sum of these clients is not to be opened, beside what the protocol says.

    Returns:
        what to remember, before the answer is sent, and the answer's `own`.

    Raises:
        SecureRefused, ProtocolError: as the steps themselves.
    """
    step, message = own["step"], own["message"]
    if step == "advertise":
        # Whatever was under way is over: no step of it is taken any more, and its secrets are of use to nobody.
        member, answer = advertise(party, message, last)
        return Kept(member), {"message": answer}
    if kept.member is None:
        raise SecureRefused(party.name, "the secure sum is not known here; it may have been started anew")
    member = kept.member
    if step == "share":
        member, answer = share(party, member, message)
    elif step == "agree":
        reason = why_not(member, Sets.read(message, member.clients))
        if reason is not None:
            raise SecureRefused(party.name, reason)
        member, answer = agree(party, member, message)
    elif step == "release":
        member, answer = release(party, member, message)
    else:
        raise ProtocolError(f"a secure sum has no step {step!r}")
    kept, told = _ahead(party, replace(kept, member=member), own, last)
    return kept, {"message": answer, **told}


def received(
    party: Party,
    kept: Kept,
    own: Mapping[str, Any],
    model: bytes,
    *,
    last: Last | None = None,
    why_not: Callable[[Member, Sets], str | None] = may_open,
) -> tuple[Kept, Masks, dict[str, Any]]:
    """The step "mask" but for the vector, which is still to be worked out.

    Args:
        model: SHA-256 of what the client was sent.

    Returns:
        what to remember, before anything is masked; the masks, for one vector; and what is sent with it.

    Raises:
        SecureRefused, ProtocolError: as `receive`.
    """
    member = kept.member
    if kept.ahead is not None and kept.ahead.stage == "shared" and (member is None or member.stage != "shared"):
        member = kept.ahead
    if member is None:
        raise SecureRefused(party.name, "the secure sum is not known here; it may have been started anew")
    member, masks = receive(party, member, own["message"], model)
    signed = b""
    if why_not(member, Sets.full(member.clients)) is None:
        member, signed = sign_early(party, member)
    kept, told = _ahead(party, Kept(member), own, last)
    return kept, masks, {**({"signature": signed} if signed else {}), **told}


def _ahead(party: Party, kept: Kept, own: Mapping[str, Any], last: Last | None) -> tuple[Kept, dict[str, Any]]:
    """Keys for the next sum. Whatever is wrong with them is no fault of this one, whose answer leaves all the same."""
    message = own.get("ahead")
    if not isinstance(message, bytes) or kept.member is None:
        return kept, {}
    try:
        if own["step"] == "mask":
            if Offer.read(message).run != kept.member.offer.run:
                return kept, {}
            before = max(last or kept.member.offer.order, kept.member.offer.order)
            member, answer = advertise(party, message, before)
        elif kept.ahead is not None:
            member, answer = share(party, kept.ahead, message)
        else:
            return kept, {}
    except (ClientError, ProtocolError):
        return replace(kept, ahead=None), {}
    return replace(kept, ahead=member), {"ahead": answer}
