"""Asks and answers as frames: what travels between a server and its nodes.

A model is not part of an ask: arrays travel once as "blobs", named by their SHA-256, and asks refer to them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from umbel.arrays import Arrays
from umbel.errors import ArraysError, ProtocolError, UmbelError, WireError
from umbel.message import Ask, Evaluation, Group, Kind, Task, Update
from umbel.wire import pack_parts, unpack

Basis: TypeAlias = "tuple[int, int] | None"
SLACK_BYTES = 2**20
KINDS: tuple[Kind, ...] = ("fit", "evaluate", "properties", "query")


@final
@dataclass(frozen=True)
class Letter:
    """An ask as a node reads it; `model` and `extra` name arrays by digest.

    Attributes:
        basis: (round, attempt) of the client's state to go on from; None is none.
        left_s: seconds until the answer is due.
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

    @property
    def digests(self) -> list[str]:
        """The blobs it speaks of."""
        return [self.model, *self.extra.values()]

    def ask(self, blobs: Mapping[str, Arrays]) -> Ask:
        """The ask, with its arrays put in."""
        extra = {name: blobs[digest] for name, digest in self.extra.items()}
        task = Task(self.round, blobs[self.model], extra, self.config, self.shared)
        return Ask(self.client, self.kind, task, self.own, self.phase, self.attempt, self.key)


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
        "own": ["plain", dict(ask.own)],
        "config": ["plain", dict(ask.task.config)],
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
    tree = _tree("ask", data)
    try:
        if tree["kind"] not in KINDS:
            raise ProtocolError(f"an ask is of the unknown kind {tree['kind']!r}; is the server newer?")
        return Letter(
            run=tree["run"],
            round=int(tree["round"]),
            attempt=int(tree["attempt"]),
            phase=int(tree["phase"]),
            kind=tree["kind"],
            client=tree["client"],
            key=int.from_bytes(tree["key"], "little"),
            own=tree["own"][1],
            config=tree["config"][1],
            shared=tuple(tree["shared"]),
            model=tree["model"],
            extra=dict(tree["extra"]),
            basis=None if tree["basis"] is None else (int(tree["basis"][0]), int(tree["basis"][1])),
            left_s=float(tree["left_s"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ProtocolError(f"an ask lacks something or holds something odd: {error}") from None


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
    tree: dict[str, Any] = {
        "run": answer.run,
        "round": answer.round,
        "attempt": answer.attempt,
        "kind": answer.kind,
        "client": answer.client,
        "verdict": answer.verdict,
        "reason": answer.reason[:2000],
        "seconds": answer.seconds,
        "has_state": answer.has_state,
        "warnings": [text[:500] for text in answer.warnings[:20]],
        "facts": ["plain", dict(answer.facts)],
    }
    if answer.update is not None:
        update = answer.update
        tree["examples"], tree["steps"] = update.examples, update.steps
        tree["metrics"] = ["plain", dict(update.metrics)]
        tree["groups"] = {
            name: {"weight": float(group.weight), "arrays": group.arrays} for name, group in update.groups.items()
        }
    if answer.evaluation is not None:
        judged = answer.evaluation
        tree["loss"], tree["examples"] = judged.loss, judged.examples
        tree["metrics"] = ["plain", dict(judged.metrics)]
    return pack_parts("answer", tree)


def read_answer(data: memoryview) -> Answer:
    """The answer in a frame. Whether it fits the task is not looked at here.

    Raises:
        ProtocolError: it is none.
    """
    tree = _tree("answer", data)
    try:
        update = evaluation = None
        if "groups" in tree:
            groups = {
                str(name): Group(_arrays(entry["arrays"]), float(entry["weight"]))
                for name, entry in tree["groups"].items()
            }
            update = Update(groups, float(tree["examples"]), int(tree["steps"]), dict(tree["metrics"][1]))
        if "loss" in tree:
            evaluation = Evaluation(float(tree["loss"]), float(tree["examples"]), dict(tree["metrics"][1]))
        return Answer(
            run=str(tree["run"]),
            round=int(tree["round"]),
            attempt=int(tree["attempt"]),
            kind=tree["kind"],
            client=str(tree["client"]),
            verdict=str(tree["verdict"]),
            reason=str(tree["reason"])[:2000],
            seconds=float(tree["seconds"]),
            has_state=bool(tree["has_state"]),
            warnings=tuple(str(text)[:500] for text in tree["warnings"][:20]),
            update=update,
            evaluation=evaluation,
            facts=dict(tree["facts"][1]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ProtocolError(f"an answer lacks something or holds something odd: {error}") from None


def _arrays(value: object) -> Arrays:
    if not isinstance(value, Arrays):
        raise TypeError("a group without arrays")
    return value


def _tree(kind: str, data: memoryview) -> dict[str, Any]:
    try:
        return unpack(kind, data)
    except (WireError, ArraysError) as error:
        raise ProtocolError(str(error)) from None
    except UmbelError:
        raise
    except Exception as error:
        # Whatever a hostile tree makes Python stumble over is the sender's doing.
        raise ProtocolError(f"a frame of kind {kind!r} cannot be read: {type(error).__name__}: {error}") from None


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
