"""Checkpoints: a strategy's and a coordinator's state after a round, as one sealed frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from umbel.errors import CheckpointCorrupt, StoreError, WireError
from umbel.stores import RunReader
from umbel.strategy import State
from umbel.wire import pack_parts, unpack

FORMAT = 1


def write(state: State, coordinator: Mapping[str, Any]) -> list[bytes | memoryview]:
    """The parts of a checkpoint; they share memory with `state`."""
    tree = {
        "format": FORMAT,
        "params": state.params,
        "slots": dict(state.slots),
        "scalars": dict(state.scalars),
        "coordinator": dict(coordinator),
    }
    return pack_parts("checkpoint", tree)


def read(data: bytes) -> tuple[State, dict[str, Any]]:
    """The states in a checkpoint.

    Raises:
        WireError: its bytes are not what was written, or of a format this version does not read.
    """
    tree = unpack("checkpoint", data)
    if tree["format"] != FORMAT:
        raise WireError(f"checkpoint format {tree['format']} is not known; this version reads {FORMAT}")
    return State(tree["params"], tree["slots"], tree["scalars"]), tree["coordinator"]


def latest(store: RunReader, run: str, until: float = math.inf) -> tuple[int, State, dict[str, Any], list[str]]:
    """The newest checkpoint that can be read: (round, state, coordinator's state, sentences on those that cannot).

    Args:
        until: the last round whose checkpoint is taken.

    Raises:
        CheckpointCorrupt: none can be read.
        StoreError: there is none.
    """
    sentences: list[str] = []
    for number in reversed([one for one in store.checkpoints(run) if one <= until]):
        try:
            state, coordinator = read(store.checkpoint(run, number))
        except WireError as error:
            sentences.append(f"the checkpoint of round {number} is damaged ({error}); the one before it is used")
            continue
        return number, state, coordinator, sentences
    if sentences:
        raise CheckpointCorrupt(f"no checkpoint of run {run} can be read: {'; '.join(sentences)}")
    if any(event.get("kind") == "forgotten" for event in store.log(run)):
        raise StoreError(f"run {run} has no checkpoint left: a client that was in all of them was forgotten")
    raise StoreError(f"run {run} has no checkpoint; it was ended before it began")
