"""`Ciphered`: any strategy with a linear reducer, whose clients answer with ciphertexts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from umbel.local_client import LocalClient
from umbel.message import Ask, ClientState, Context, Task, Update
from umbel.privacy.ckks.parameters import Ckks
from umbel.privacy.ckks.round import Member, Sum, advertise, deal, encrypt, opened, receive
from umbel.privacy.sa1.encoding import Encoding
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.party import Floors, Party
from umbel.privacy.sa1.secured import digest_of, encoded, generated, identity_of, judged
from umbel.reducers import Mean, Reducer, Reduction
from umbel.schema import Schema
from umbel.strategy import State, Strategy


@final
@dataclass(frozen=True, kw_only=True)
class Ciphered(Strategy):
    """The client's half of an encrypted round around another strategy; the server's half is unchanged.

    An ask's `own` has the step, what the sum is about, the server's message and what the client remembers; the answer's
    `own` has the message back and what to remember.
    """

    inner: Strategy
    settings: Ckks
    floors: Floors = field(default_factory=Floors)
    reducer: Reducer = field(default_factory=Mean)
    evaluates: ClassVar[bool] = True

    def init(self, params: Any) -> State:
        return self.inner.init(params)

    def task(self, state: State, round: int) -> Task:
        return self.inner.task(state, round)

    def step(self, state: State, reduced: Reduction) -> State:
        return self.inner.step(state, reduced)

    def schema(self, task: Task, own: Mapping[str, Any]) -> Mapping[str, Schema]:
        return {}

    def reply(self, ask: Ask, ctx: Context) -> Update | None:
        step, message = ask.own["step"], ask.own["message"]
        if step == "encrypt":
            return None
        party, about = self._party(ask), self._about(ask)
        if step == "advertise":
            member, answer = advertise(party, about)
        elif step == "deal":
            member, sealed = deal(party, about, Member.read(ask.own["member"]), table(message))
            answer = tabled(sealed)
        else:
            member = Member.read(ask.own["member"])
            words, who = opened(party, about, member, message)
            answer = joined(words.tobytes(), *(name.encode() for name in who))
        return Update({}, 0.0, own={"member": member.data, "message": answer})

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        party, about, member = self._party(ask), self._about(ask), Member.read(ask.own["member"])
        if ask.own["message"]:
            dealer, advert, sealed = parted(ask.own["message"], 3)
            member = receive(party, about, member, dealer.decode(), advert, sealed)
        encoding, memory = Encoding.read(ask.own["encoding"]), ctx.memory
        if ask.kind == "evaluate":
            vector = judged(encoding, client, ask.task, ctx)
        else:
            update, memory = self.inner.local(ask, client, ctx)
            vector = encoded(encoding, update)
        told = encrypt(ask.client, about, member, vector)
        return Update({}, 0.0, own={"member": member.data, "message": told}), memory

    def _about(self, ask: Ask) -> Sum:
        """What the client itself makes the sum to be about: of the server's word, and of the model that it holds."""
        place, encoding, names, model = (ask.own[key] for key in ("place", "encoding", "clients", "model"))
        if ask.own["step"] == "encrypt":
            model = digest_of(ask.task)
        words = Encoding.read(encoding).length
        return Sum(settings=self.settings, about=joined(place, encoding, model), clients=tuple(names), length=words)

    def _party(self, ask: Ask) -> Party:
        """Made from the root of all identities of a simulation."""
        root: bytes = ask.own["root"]

        def trusts(name: str, identity: bytes, credential: bytes) -> bool:
            return identity_of(generated(root, name)) == identity

        return Party(name=ask.client, secret=generated(root, ask.client), trusts=trusts, floors=self.floors)


def table(data: bytes) -> dict[str, bytes]:
    """The bytes of each client in one message."""
    names, *rest = parted(data)
    return dict(zip(json.loads(names), rest, strict=True))


def tabled(told: Mapping[str, bytes]) -> bytes:
    """What `table` reads."""
    return joined(json.dumps(list(told)).encode(), *told.values())
