"""`Ciphered`: any strategy with a linear reducer, whose clients answer with ciphertexts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np

from umbel.arrays import Arrays
from umbel.errors import ProtocolError
from umbel.local_client import LocalClient
from umbel.message import Ask, ClientState, Context, Task, Update
from umbel.privacy.ckks.joining import advertise, deal, receive
from umbel.privacy.ckks.member import Member
from umbel.privacy.ckks.summing import agree, encrypt, opened
from umbel.privacy.sa1.keys import identity_of
from umbel.privacy.sa1.party import Floors, Party
from umbel.privacy.sa1.secured import digest_of, encoded, generated, judged
from umbel.reducers import Mean, Reducer, Reduction
from umbel.schema import Schema
from umbel.strategy import State, Strategy

TOTAL, BYTES = "total", "bytes"
CARRIES, CARRIED = ("encrypt", "open"), "carried"
"""Between a node and its server, the messages of these steps are a group of this name: they are large."""


@final
@dataclass(frozen=True, kw_only=True)
class Ciphered(Strategy):
    """The client's half of an encrypted round around another strategy; the server's half is unchanged.

    An ask's `own` has the step, the server's message and, where the client's node keeps it for the client, what the
    client remembers (`member`) and its identity; the answer's `own` has the message back and what to remember. What is
    to be opened comes with the task, as what is large does.
    """

    inner: Strategy
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
        party = self._party(ask)
        if step == "advertise":
            last = ask.own.get("last")
            member, answer = advertise(party, message, None if last is None else (last[0], last[1]))
        elif step in ("deal", "agree"):
            work = {"deal": deal, "agree": agree}[step]
            member, answer = work(party, Member.read(ask.own["member"]), message)
        elif step == "open" and TOTAL in ask.task.extra:
            member, words = opened(party, Member.read(ask.own["member"]), message, bytes_in(ask.task.extra[TOTAL]))
            answer = words.tobytes()
        else:
            raise ProtocolError(f"an encrypted round has no step {step!r}, or not without a sum to open")
        return Update({}, 0.0, own={"member": member.data, "message": answer})

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        party, model = self._party(ask), digest_of(ask.task)
        member = receive(party, Member.read(ask.own["member"]), ask.own["message"])
        encoding, memory = member.offer.encoding, ctx.memory
        if ask.kind == "evaluate":
            vector = judged(encoding, client, ask.task, ctx)
        else:
            update, memory = self.inner.local(ask, client, ctx)
            vector = encoded(encoding, update)
        member, told = encrypt(party, member, model, vector)
        return Update({}, 0.0, own={"member": member.data, "message": told}), memory

    def _party(self, ask: Ask) -> Party:
        """Who plays: as a node keeps it for its client, or made from the root of all identities of a simulation."""
        party = ask.own.get("party")
        if isinstance(party, Party):
            return party
        root: bytes = ask.own["root"]

        def trusts(name: str, identity: bytes, credential: bytes) -> bool:
            return identity_of(generated(root, name)) == identity

        return Party(name=ask.client, secret=generated(root, ask.client), trusts=trusts, floors=self.floors)


def carried(data: bytes) -> Arrays:
    """Bytes as an array, which is how large ones travel."""
    return Arrays.of({BYTES: np.frombuffer(data, np.uint8)}, roles={BYTES: "averaged"})


def bytes_in(arrays: Arrays) -> bytes:
    """What `carried` carries.

    Raises:
        ProtocolError: it carries something else.
    """
    specs = [(spec.name, spec.dtype, len(spec.shape)) for spec in arrays.schema.specs]
    if specs != [(BYTES, "U8", 1)]:
        raise ProtocolError(f"bytes travel as one array {BYTES!r} of U8, got {specs[:3]}")
    return arrays.flat(arrays.schema.segments[0]).tobytes()
