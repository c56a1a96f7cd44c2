"""Asks and answers as frames: what travels between a server and its nodes.

A model is not part of an ask: arrays travel once as "blobs", named by their SHA-256, and asks refer to them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast, final

from umbel.arrays import Arrays
from umbel.errors import ProtocolError, WireError, printable
from umbel.message import Ask, Evaluation, Group, Kind, Task, Update
from umbel.runtimes.fields import MAX_TEXT, Fields
from umbel.wire import pack_parts, pack_sealed, unpack

Basis: TypeAlias = "tuple[int, int] | None"
RESUMABLE = b"resumable"
"""With this a node that lets go of a run keeps what its client remembers."""
SLACK_BYTES = 2**20
SEAL_BYTES = 32
KINDS: tuple[Kind, ...] = ("fit", "evaluate", "properties", "query")
VERDICTS = ("done", "failed", "refused", "unwilling")
MAX_NAME, MAX_WARNINGS, MAX_WARNING = 256, 20, 500
# A header may take this much memory, and three times as much as the whole frame has bytes.
HEADER_BYTES = 12 * 2**20


@final
@dataclass(frozen=True)
class Letter:
    """An ask as a node reads it; `model` and `extra` name arrays by digest.

    Attributes:
        basis: (round, attempt) of the client's state to go on from; None is none.
        left_s: seconds until the answer is due.
        frame: the bytes that it was read from.
        mine: what the node itself adds to `own`; it comes before anything that the server says.
    """

    run: str
    round: int
    attempt: int
    phase: int
    kind: Kind
    client: str
    key: int
    own: Mapping[str, Any]
    config: Mapping[str, Any]
    shared: tuple[str, ...]
    model: str
    extra: Mapping[str, str]
    basis: Basis
    left_s: float
    frame: memoryview = field(default=memoryview(b""), repr=False, compare=False)
    mine: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    @property
    def digests(self) -> list[str]:
        """The blobs it speaks of."""
        return [self.model, *self.extra.values()]

    def ask(self, blobs: Mapping[str, Arrays]) -> Ask:
        """The ask, with its arrays put in."""
        extra = {name: blobs[digest] for name, digest in self.extra.items()}
        task = Task(self.round, blobs[self.model], extra, self.config, self.shared)
        # Only the node can say what these are.
        own = {key: value for key, value in self.own.items() if key not in ("masks", "told")}
        return Ask(self.client, self.kind, task, {**own, **self.mine}, self.phase, self.attempt, self.key)


def blobs_of(task: Task) -> dict[str, Arrays]:
    """The arrays of a task by digest."""
    return {arrays.digest: arrays for arrays in (task.arrays, *task.extra.values())}


def write_letter(run: str, ask: Ask, digests: Mapping[str, str], basis: Basis, left_s: float) -> list[Any]:
    """The parts of an ask's frame; `digests` names the task's model ("") and its extra arrays."""
    assert ask.key is not None
    tree = {
        "run": run,
        "round": ask.task.round,
        "attempt": ask.attempt,
        "phase": ask.phase,
        "kind": ask.kind,
        "client": ask.client,
        "key": ask.key.to_bytes(16, "little"),
        "own": dict(ask.own),
        "config": dict(ask.task.config),
        "shared": list(ask.task.shared),
        "model": digests[""],
        "extra": {name: digests[name] for name in ask.task.extra},
        "basis": None if basis is None else list(basis),
        "left_s": left_s,
    }
    return pack_parts("ask", tree)


def read_letter(data: memoryview) -> Letter:
    """The ask in a frame.

    Raises:
        ProtocolError: it is none.
    """
    fields = _fields("ask", data)
    left = fields.number("left_s")
    if not left >= 0:
        raise ProtocolError(f"an ask leaves {left} s for its answer; at least 0 are right")
    return Letter(
        run=fields.text("run", MAX_NAME),
        round=fields.whole("round"),
        attempt=fields.whole("attempt"),
        phase=fields.whole("phase"),
        kind=fields.one_of("kind", KINDS),
        client=fields.text("client", MAX_NAME),
        key=_key(fields.tree.get("key")),
        own=fields.table("own"),
        config=fields.plain("config"),
        shared=fields.texts("shared"),
        model=fields.digest("model"),
        extra=fields.digests("extra"),
        basis=_basis(fields.tree.get("basis")),
        left_s=left,
        frame=data,
    )


def _key(value: Any) -> int:
    if not isinstance(value, bytes) or len(value) != 16:
        raise ProtocolError("the key of an ask has 16 bytes; do both sides run the same Umbel?")
    return int.from_bytes(value, "little")


def _basis(value: Any) -> Basis:
    if value is None:
        return None
    if not isinstance(value, list) or len(cast("list[Any]", value)) != 2:
        raise ProtocolError("the basis of an ask is a round and an attempt; do both sides run the same Umbel?")
    number, attempt = cast("list[Any]", value)
    places = Fields("the basis of an ask", {"round": number, "attempt": attempt})
    return places.whole("round"), places.whole("attempt")


@final
@dataclass(frozen=True)
class Answer:
    """What a node sends back: an update, an evaluation, or why there is neither.

    Attributes:
        has_state: the node keeps a new state of its client under (round, attempt).
        verdict: "done", "failed" (the client raised), "refused" (its answer was not valid) or "unwilling" (its owner's
            policy, or a strategy that such a client cannot follow).
    """

    run: str
    round: int
    attempt: int
    kind: Kind
    client: str
    verdict: str = "done"
    reason: str = ""
    seconds: float = 0.0
    has_state: bool = False
    warnings: tuple[str, ...] = ()
    update: Update | None = None
    evaluation: Evaluation | None = None
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


def write_answer(answer: Answer) -> list[Any]:
    """The parts of an answer's frame, which share memory with its arrays."""
    return seal_answer(answer)[0]


def seal_answer(answer: Answer) -> tuple[list[Any], bytes]:
    """As `write_answer`, and the SHA-256 of the frame."""
    tree: dict[str, Any] = {
        "run": answer.run,
        "round": answer.round,
        "attempt": answer.attempt,
        "kind": answer.kind,
        "client": answer.client,
        "verdict": answer.verdict,
        "reason": _sendable(answer.reason, MAX_TEXT),
        "seconds": answer.seconds,
        "has_state": answer.has_state,
        "warnings": [_sendable(text, MAX_WARNING) for text in answer.warnings[:MAX_WARNINGS]],
        "facts": dict(answer.facts),
    }
    if answer.update is not None:
        update = answer.update
        tree["examples"], tree["steps"] = update.examples, update.steps
        tree["metrics"] = dict(update.metrics)
        tree["groups"] = {
            name: {"weight": float(group.weight), "arrays": group.arrays} for name, group in update.groups.items()
        }
        if update.own:
            tree["own"] = dict(update.own)
    if answer.evaluation is not None:
        judged = answer.evaluation
        tree["loss"], tree["examples"] = judged.loss, judged.examples
        tree["metrics"] = dict(judged.metrics)
    return pack_sealed("answer", tree)


def read_answer(data: memoryview) -> Answer:
    """The answer in a frame. Whether it fits the task is not looked at here.

    Raises:
        ProtocolError: it is none.
    """
    return answer_in(_fields("answer", data).tree)


def answer_in(tree: Mapping[str, Any], *, groups: bool = True) -> Answer:
    """The answer in a frame's tree, as `read_answer`.

    Args:
        groups: False leaves an update's groups out: their leaves are not arrays that are here.
    """
    fields = Fields("an answer", tree)
    return Answer(
        run=fields.text("run", MAX_NAME),
        round=fields.whole("round"),
        attempt=fields.whole("attempt"),
        kind=fields.one_of("kind", KINDS),
        client=fields.text("client", MAX_NAME),
        verdict=fields.one_of("verdict", VERDICTS),
        reason=printable(fields.text("reason")),
        seconds=fields.number("seconds"),
        has_state=fields.flag("has_state"),
        warnings=tuple(printable(text, MAX_WARNING) for text in fields.texts("warnings")[:MAX_WARNINGS]),
        update=_update(fields, groups) if "groups" in fields.tree else None,
        evaluation=_evaluation(fields) if "loss" in fields.tree else None,
        facts=fields.plain("facts"),
    )


def _update(fields: Fields, with_groups: bool) -> Update:
    groups: dict[str, Group] = {}
    for name in fields.table("groups") if with_groups else ():
        group = Fields(
            f"the group {name!r} of an answer", Fields("an answer's groups", fields.tree["groups"]).table(name)
        )
        groups[name] = Group(group.arrays("arrays"), group.number("weight"))
    own = fields.plain("own") if "own" in fields.tree else {}
    return Update(groups, fields.number("examples"), fields.whole("steps", 53), fields.plain("metrics"), own)


def _evaluation(fields: Fields) -> Evaluation:
    return Evaluation(fields.number("loss"), fields.number("examples"), fields.plain("metrics"))


def _sendable(text: str, most: int) -> str:
    """A sentence that fits; half a surrogate pair in it (a file's name) becomes a question mark."""
    return text[:most].encode("utf-8", "replace").decode()


def _fields(kind: str, data: memoryview) -> Fields:
    try:
        return Fields(f"an {kind}", unpack(kind, data, budget_bytes=3 * len(data) + HEADER_BYTES))
    except WireError as error:
        raise ProtocolError(str(error)) from None


def seal_of(parts: Sequence[Any]) -> str:
    """The SHA-256 that ends a frame: of all its bytes before. Who reads a frame has checked it."""
    return bytes(memoryview(parts[-1])[-SEAL_BYTES:]).hex()


def write_basis(round: int, attempt: int) -> bytes:
    """What a server keeps of a client's state: where the client finds it."""
    return f"{round} {attempt}".encode()


def read_basis(data: bytes | None) -> Basis:
    """(round, attempt) of `write_basis`."""
    if data is None:
        return None
    number, attempt = data.decode().split()
    return int(number), int(attempt)


def left_s(ends_at_s: float, now_s: float) -> float:
    """Seconds that are left, at least 0."""
    return math.inf if math.isinf(ends_at_s) else max(0.0, ends_at_s - now_s)
