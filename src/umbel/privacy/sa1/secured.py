"""`Secured`: any strategy with a linear reducer, whose clients answer with masked vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.dtypes import widen
from umbel.errors import ProtocolError, SecureRefused
from umbel.local import assemble
from umbel.local_client import LocalClient
from umbel.message import Ask, ClientState, Context, Group, Task, Update, numbers
from umbel.privacy.clip import grid_of
from umbel.privacy.private import Private
from umbel.privacy.sa1.encoding import Decoded, Encoding
from umbel.privacy.sa1.fields import joined
from umbel.privacy.sa1.joining import advertise, share
from umbel.privacy.sa1.keys import derived, identity_of
from umbel.privacy.sa1.masking import agree, mask, release
from umbel.privacy.sa1.member import Member
from umbel.privacy.sa1.party import Floors, Party
from umbel.privacy.sa1.ring import GROUP, WORDS, Opened, Ring, words_schema
from umbel.privacy.sa1.sets import Sets
from umbel.reducers import Reduced, Reducer, Reduction
from umbel.schema import Schema
from umbel.strategy import State, Strategy


@final
@dataclass(frozen=True, kw_only=True)
class Secured(Strategy):
    """The client's half of a secure round around another strategy; the server's half of that strategy is unchanged.

    An ask's `own` has the step of the protocol, the server's message and, where the client's node keeps it for the
    client, what the client remembers (`member`) and its identity. The answer's `own` has the message back and what to
    remember.
    """

    inner: Strategy
    floors: Floors = field(default_factory=Floors)
    reducer: Reducer = field(default_factory=Ring)
    evaluates: ClassVar[bool] = True

    def init(self, params: Arrays) -> State:
        return self.inner.init(params)

    def task(self, state: State, round: int) -> Task:
        return self.inner.task(state, round)

    def step(self, state: State, reduced: Reduction) -> State:
        return self.inner.step(state, reduced)

    def schema(self, task: Task, own: Mapping[str, Any]) -> Mapping[str, Schema]:
        return words_schema(own["words"]) if own["step"] == "mask" else {}

    def reply(self, ask: Ask, ctx: Context) -> Update | None:
        step, message = ask.own["step"], ask.own["message"]
        if step == "mask":
            return None
        party = self._party(ask)
        if step == "advertise":
            last = ask.own.get("last")
            member, answer = advertise(party, message, None if last is None else (last[0], last[1]))
        else:
            work = {"share": share, "agree": agree, "release": release}[step]
            member = Member.read(ask.own["member"])
            if step == "agree":
                self._check_noise(party.name, member, Sets.read(message, member.clients))
            member, answer = work(party, member, message)
        return Update({}, 0.0, own={"member": member.data, "message": answer})

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        member = Member.read(ask.own["member"])
        model = digest_of(ask.task)
        encoding = member.offer.encoding
        memory = ctx.memory
        if ask.kind == "evaluate":
            vector = judged(encoding, client, ask.task, ctx)
        else:
            update, memory = self.inner.local(ask, client, ctx)
            vector = encoded(encoding, update)
            if isinstance(self.inner, Private) and self.inner.mechanism.sharing is not None:
                add_noise(ask.client, self.inner, encoding, vector)
        after, vector = mask(self._party(ask), member, ask.own["message"], model, vector)
        words = Arrays.of({WORDS: vector}, roles={WORDS: "averaged"})
        return Update({GROUP: Group(words, 1.0)}, 0.0, own={"member": after.data}), memory

    def _check_noise(self, name: str, member: Member, sets: Sets) -> None:
        """Refuse to open a sum of so few clients that their noise is not what was promised."""
        sharing = self.inner.mechanism.sharing if isinstance(self.inner, Private) else None
        if sharing is None:
            return
        least, found = sharing.least_summed(member.offer.clients), len(sets.summed)
        if found < least:
            raise SecureRefused(
                name, f"the sum has the noise of {found} clients, the promise needs that of {least}; keep more of them"
            )

    def _party(self, ask: Ask) -> Party:
        """Who plays: as a node keeps it for its client, or made from the root of all identities of a simulation."""
        party = ask.own.get("party")
        if isinstance(party, Party):
            return party
        root: bytes = ask.own["root"]

        def trusts(name: str, identity: bytes, credential: bytes) -> bool:
            return identity_of(generated(root, name)) == identity

        return Party(name=ask.client, secret=generated(root, ask.client), trusts=trusts, floors=self.floors)


def generated(root: bytes, name: str) -> bytes:
    """The identity of a simulated client: real ones are enrolled."""
    return derived(root, b"simulated identity " + name.encode(), b"", 0, 0)


def digest_of(task: Task) -> bytes:
    """SHA-256 of all that a client is sent: the model, the strategy's other arrays, the configuration."""
    others = [joined(name.encode(), bytes.fromhex(arrays.digest)) for name, arrays in sorted(task.extra.items())]
    config = json.dumps(dict(task.config), sort_keys=True, default=repr).encode()
    parts = [bytes.fromhex(task.arrays.digest), config, joined(*others), *(name.encode() for name in task.shared)]
    return sha256(joined(*parts)).digest()


def add_noise(client: str, private: Private, encoding: Encoding, vector: NDArray[np.uint32]) -> None:
    """Add this client's part of the noise to the values of its vector, modulo 2^32, before anything is masked.

    Raises:
        SecureRefused: in the header's encoding a step of the noise's grid is no whole number, or there is no room.
    """
    unit = grid_of(private.plan.bound, private.bits) * encoding.scale(encoding.clip)
    if unit < 1 or encoding.clip < private.reach or encoding.weight_cap != 1:
        raise SecureRefused(
            client,
            f"noise needs room up to {private.reach:g} in steps of {grid_of(private.plan.bound, private.bits):g}, the "
            f"header has clip={encoding.clip:g} for {encoding.clients} clients and weight_cap={encoding.weight_cap:g}",
        )
    steps = private.own_noise(encoding.size)
    steps *= int(unit)
    vector[encoding.first :] += steps.astype(np.uint32)


def opened(decoded: Decoded, schema: Mapping[str, Schema], count: int) -> Opened:
    """What a decoded sum is for the strategy that asked for groups of this schema."""
    groups: dict[str, Reduced] = {}
    start = 0
    for name, weight in zip(sorted(schema), decoded.weights, strict=True):
        values = decoded.values[start : start + schema[name].size]
        groups[name] = Reduced(Vector(schema[name], values), weight, count)
        start += schema[name].size
    return Opened(groups)


def encoded(encoding: Encoding, update: Update) -> NDArray[np.uint32]:
    """An update as words, before masks are added."""
    metrics, _ = numbers(update.metrics)
    groups = [(_flat(group.arrays), group.weight) for _, group in sorted(update.groups.items())]
    return encoding.encode(groups, examples=update.examples, metrics=metrics)


def _flat(arrays: Arrays) -> list[NDArray[Any]]:
    """All values in the schema's order; bfloat16 is widened, which NumPy cannot multiply."""
    segments = arrays.schema.segments
    flat = [arrays.flat(segment) for segment in segments]
    return [widen(part, s.dtype) if s.dtype == "BF16" else part for part, s in zip(flat, segments, strict=True)]


def judged(encoding: Encoding, client: LocalClient, task: Task, ctx: Context) -> NDArray[np.uint32]:
    """The vector of an evaluation: it has metrics, and no values."""
    if "evaluate" not in client.capabilities:
        return encoding.encode([([], 0.0)])
    found = client.evaluate_arrays(assemble(task, client, ctx), ctx)
    metrics, _ = numbers({"loss": found.loss, **found.metrics})
    if "loss" not in metrics:
        raise ProtocolError(f"the loss of an evaluation is {found.loss!r}, not a finite number")
    return encoding.encode([([], found.examples)], examples=found.examples, metrics=metrics)
