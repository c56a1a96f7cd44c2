"""Two messages between two data owners, after which the asker knows which of its ids the other has."""

from __future__ import annotations

import math
import secrets
import struct
from collections.abc import Sequence
from typing import final

from umbel.errors import ConfigError, NotSupported, ProtocolError
from umbel.message import is_number, require
from umbel.privacy.psi.consent import Asked, Consent
from umbel.privacy.psi.engine import Blinding
from umbel.privacy.psi.openmined import OpenMined

MAGIC = b"umbel psi 1\n"
BLINDED_BYTES = 64
"""More than any blinded id takes with what is around it."""
LONGEST_ID = 1000
DUMMY, REAL = b"\x00", b"\x01"
_HEAD = struct.Struct("<II")


@final
class Asker:
    """The owner that learns which of its ids the other has.

    Guarantee: against a holder that keeps to the protocol and wants to know more, the holder learns how many ids were
    asked for (dummies included) and nothing of which; the asker learns which of *its own* ids are there and how many
    the holder has (dummies included). What it does not do: an asker may ask for ids that it has made up, and so finds
    out of anybody whom it can name; the holder's consent, its limits and its record are all that stands against it. A
    holder may leave ids out or put some in. Never put hashes of ids, salted or not, in the place of this: whoever can
    list the ids that there could be finds all of them.

    Args:
        ids: texts of up to 1,000 characters, each once; spelt alike on both sides, as nothing is made alike here.
        peer: the holder's name.
        consent: this owner's own word, which has to allow the peer: the peer learns how many ids there are.
        pad_to: dummies are added up to so many; 0 adds none.

    Raises:
        ConfigError: an id is none, or there twice; `pad_to` is fewer than there are; or `openmined-psi` is not
            installed.
        NotSupported: consent does not allow it.

    Example:
        >>> asker = Asker(["ann", "bob"], peer="clinic", consent=Consent(allow=["clinic"]))  # doctest: +SKIP
        >>> holder = Holder(["bob", "eve"], consent=Consent(allow=["lab"]))  # doctest: +SKIP
        >>> asker.intersection(holder.reply("lab", asker.request(), now_s=0.0))  # doctest: +SKIP
        ['bob']

    References:
        C. Meadows, "A More Efficient Cryptographic Matchmaking Protocol for Use in the Absence of a Continuously
        Available Third Party", IEEE S&P 1986, https://doi.org/10.1109/SP.1986.10022
    """

    def __init__(
        self, ids: Sequence[str], *, peer: str, consent: Consent, pad_to: int = 0, blinding: Blinding | None = None
    ) -> None:
        reason = consent.why_not_peer(peer)
        if reason is not None:
            raise NotSupported(f"{reason}; add it there, at both owners'")
        check_ids(ids, pad_to)
        self.ids = tuple(ids)
        asked = max(len(self.ids), pad_to)
        if asked > consent.max_ids:
            raise NotSupported(
                f"{asked} ids are more than this owner's intersection.max_ids = {consent.max_ids}; raise "
                "it, or ask for fewer"
            )
        self._padded = padded(self.ids, pad_to)
        self._blinding = blinding or OpenMined()

    def request(self) -> bytes:
        """The message to the holder; each call begins anew."""
        return MAGIC + self._blinding.request(self._padded)

    def intersection(self, reply: bytes) -> list[str]:
        """Those of the ids that both have, in the order in which they were given.

        Raises:
            ProtocolError: it is no reply to the last request.
        """
        setup, response = _divided(reply)
        places = self._blinding.common(setup, response, len(self._padded))
        if places and not 0 <= places[0] <= places[-1] < len(self.ids):
            raise ProtocolError("the reply has ids in common that nobody has: it is none to this request")
        return [self.ids[place] for place in places]


@final
class Holder:
    """The owner that answers; see `Asker` for what each learns.

    Args:
        ids: as for `Asker`.
        consent: who may ask, how much and how often.
        asked: what was asked for before, and where it is written down.
        pad_to: dummies are added up to so many; 0 adds none.
    """

    def __init__(
        self,
        ids: Sequence[str],
        *,
        consent: Consent,
        asked: Asked | None = None,
        pad_to: int = 0,
        blinding: Blinding | None = None,
    ) -> None:
        self._ids, self._count, self._consent = padded(ids, pad_to), len(ids), consent
        self._asked, self._blinding = asked or Asked(), blinding or OpenMined()

    def reply(self, peer: str, request: bytes, *, now_s: float) -> bytes:
        """The answer to a peer's request, which is written down before.

        Args:
            peer: who asks, as whoever carries the message has made sure of.
            now_s: Unix time.

        Raises:
            NotSupported: the owner has not agreed to it, or it is too much.
            ProtocolError: it is no request.
            StoreError: it cannot be written down.
        """
        # Of NaN no time is a day ago, and no limit would hold.
        fine = is_number(now_s) and math.isfinite(now_s)
        require(fine, f"now_s must be a Unix time in seconds, got {now_s!r}")
        self._check(self._consent.why_not_peer(peer))
        body = _body(request)
        if len(body) > self._consent.max_ids * BLINDED_BYTES:
            raise NotSupported(
                f"the request has {len(body)} bytes, which are more than {self._consent.max_ids} ids take "
                "(intersection.max_ids)"
            )
        count = self._blinding.count(body)
        with self._asked.held():
            self._check(self._consent.why_not(peer, count, self._asked.before, now_s))
            self._asked.note(now_s, peer, count, self._count)
        setup, response = self._blinding.reply(body, self._ids)
        return MAGIC + _HEAD.pack(len(setup), len(response)) + setup + response

    def _check(self, reason: str | None) -> None:
        if reason is not None:
            raise NotSupported(reason)


def check_padding(count: object) -> None:
    """Refuse what is no number of dummies."""
    fine = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    require(fine, f"pad_to must be a whole number of at least 0, got {count!r}")


def check_ids(ids: Sequence[str], count: int) -> None:
    """Refuse what cannot be padded to `count`.

    Raises:
        ConfigError: an id is none, or there twice, or there are more than `count`, which is not 0.
    """
    check_padding(count)
    listed = isinstance(ids, Sequence) and not isinstance(ids, (str, bytes))  # pyright: ignore[reportUnnecessaryIsInstance]
    require(listed, f"ids is a list of texts, got {ids!r:.100}")
    for one in ids:
        fine = isinstance(one, str) and 0 < len(one) <= LONGEST_ID  # pyright: ignore[reportUnnecessaryIsInstance]
        require(fine, f"an id is a text of 1 to {LONGEST_ID} characters, got {one!r:.100}")
    if len(set(ids)) != len(ids):
        twice = next(one for place, one in enumerate(ids) if one in ids[:place])
        raise ConfigError(f"the id {twice!r} is there twice; an intersection is of sets: give each once")
    if 0 < count < len(ids):
        raise ConfigError(f"pad_to={count} hides nothing: there are {len(ids)} ids; take more, or 0 for no dummies")


def padded(ids: Sequence[str], count: int) -> list[bytes]:
    """The ids as bytes, and dummies after them that nobody else has.

    Raises:
        ConfigError: as `check_ids`.
    """
    check_ids(ids, count)
    dummies = [DUMMY + secrets.token_bytes(32) for _ in range(count - len(ids))]
    return [*(REAL + one.encode("utf-8", "surrogatepass") for one in ids), *dummies]


def _body(message: bytes) -> bytes:
    if not isinstance(message, bytes) or not message.startswith(MAGIC):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ProtocolError("these bytes are no message of an intersection, or of another version of it")
    return message[len(MAGIC) :]


def _divided(reply: bytes) -> tuple[bytes, bytes]:
    body = _body(reply)
    if len(body) < _HEAD.size:
        raise ProtocolError("the reply is cut off")
    setup, response = _HEAD.unpack_from(body)
    if len(body) != _HEAD.size + setup + response:
        raise ProtocolError(f"the reply has {len(body)} bytes, it says that it has {_HEAD.size + setup + response}")
    return body[_HEAD.size : _HEAD.size + setup], body[_HEAD.size + setup :]
