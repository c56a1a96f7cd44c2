"""`Secured`: any strategy with a linear reducer, whose clients answer with masked vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from umbel.privacy.sa1.keys import derived, identity_of
from umbel.privacy.sa1.masking import purpose_in
from umbel.privacy.sa1.masks import Masks
from umbel.privacy.sa1.party import Floors, Party
from umbel.privacy.sa1.replies import Kept, received, replied
from umbel.privacy.sa1.ring import GROUP, WORDS, Opened, Ring, words_schema
from umbel.privacy.sharing import Sharing
from umbel.reducers import Reduced, Reducer, Reduction
from umbel.schema import Schema
from umbel.strategy import State, Strategy


@final
@dataclass(frozen=True, kw_only=True)
class Secured(Strategy):
    """The client's half of a secure round around another strategy; the server's half of that strategy is unchanged.

    An ask's `own` has what `Conversation.go_on` gives, the step, and in a simulation what the client remembers (`kept`)
    and the root of all identities; the answer's `own` has the message back and what to remember. On a node only the
    step "mask" comes here, with the masks (`masks`) and what goes with the vector (`told`): the rest stays out of the
    client's process.
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
        return words_schema(purpose_in(own["message"]).encoding.length) if own["step"] == "mask" else {}

    def reply(self, ask: Ask, ctx: Context) -> Update | None:
        if ask.own["step"] == "mask":
            return None
        kept, told = replied(self._party(ask), Kept.read(ask.own["kept"]), ask.own)
        return Update({}, 0.0, own={**told, "kept": kept.data})

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        masks, told = self._masks(ask)
        encoding = purpose_in(ask.own["message"]).encoding
        memory = ctx.memory
        if ask.kind == "evaluate":
            vector = judged(encoding, client, ask.task, ctx)
        else:
            update, memory = self.inner.local(ask, client, ctx)
            vector = encoded(encoding, update)
            if self._sharing is not None:
                assert isinstance(self.inner, Private)
                add_noise(ask.client, self.inner, encoding, vector)
        masks.add_to(vector)
        words = Arrays.of({WORDS: vector}, roles={WORDS: "averaged"})
        return Update({GROUP: Group(words, 1.0)}, 0.0, own=told), memory

    def _masks(self, ask: Ask) -> tuple[Masks, dict[str, Any]]:
        """The masks of this ask's vector, and what is sent with it."""
        if "masks" in ask.own:
            return Masks.read(ask.own["masks"]), dict(ask.own["told"])
        kept, masks, told = received(self._party(ask), Kept.read(ask.own["kept"]), ask.own, digest_of(ask.task))
        return masks, {**told, "kept": kept.data}

    @property
    def _sharing(self) -> Sharing | None:
        return self.inner.mechanism.sharing if isinstance(self.inner, Private) else None

    def _party(self, ask: Ask) -> Party:
        """Who plays, made from the root of all identities of a simulation."""
        root: bytes = ask.own["root"]

        def trusts(name: str, identity: bytes, credential: bytes) -> bool:
            return identity_of(generated(root, name)) == identity

        secret = generated(root, ask.client)
        return Party(name=ask.client, secret=secret, trusts=trusts, floors=self.floors, sharing=self._sharing)


def generated(root: bytes, name: str) -> bytes:
    """The identity of a simulated client: real ones are enrolled."""
    return derived(root, b"simulated identity " + name.encode(), b"", 0, 0)


def digest_of(task: Task) -> bytes:
    """SHA-256 of all that a client is sent: the model, the strategy's other arrays, the configuration."""
    extra = {name: arrays.digest for name, arrays in task.extra.items()}
    return digest_from(task.arrays.digest, extra, task.config, task.shared)


def digest_from(model: str, extra: Mapping[str, str], config: Mapping[str, Any], shared: Sequence[str]) -> bytes:
    """As `digest_of`, from the digests of the arrays, which are known before these are here."""
    others = [joined(name.encode(), bytes.fromhex(digest)) for name, digest in sorted(extra.items())]
    plain = json.dumps(dict(config), sort_keys=True, default=repr).encode()
    parts = [bytes.fromhex(model), plain, joined(*others), *(name.encode() for name in shared)]
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
