"""What a worker does: wait for a job, play the units it gets, send one tally back."""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, final

import numpy as np

from umbel.errors import NotSupported
from umbel.message import Ask, Task
from umbel.runtimes.blocks import play_block
from umbel.runtimes.lineage import die_with
from umbel.runtimes.pool.board import Board, take
from umbel.runtimes.program import Program
from umbel.runtimes.shared import Arena, view
from umbel.runtimes.tally import Tally
from umbel.runtimes.threads import one_thread_each
from umbel.wire import pack_parts, unpack


@final
@dataclass(frozen=True)
class Descriptors:
    """The file descriptors that a worker is born with."""

    control: int
    tokens: int
    input: int
    board: int
    arena: int

    def all(self) -> list[int]:
        return [self.control, self.tokens, self.input, self.board, self.arena]


def job_parts(asks: Sequence[Ask], states: Mapping[str, bytes]) -> list[bytes | memoryview]:
    """A job as a frame in shared memory: each task once, the asks, the states that these clients have."""
    first = asks[0]
    tasks = list({id(ask.task): ask.task for ask in asks}.values())
    onto = next((ask.onto for ask in asks if ask.onto is not None), None)
    places = {id(task): place for place, task in enumerate(tasks)}
    blobs = [states.get(ask.client, b"") for ask in asks]
    ends = np.cumsum([len(blob) for blob in blobs])
    tree = {
        "kind": first.kind,
        "tasks": {str(place): _told(task) for place, task in enumerate(tasks)},
        "asks": [[ask.client, places[id(ask.task)], ask.attempt, ask.phase, dict(ask.own), ask.scale] for ask in asks],
        "onto": {} if onto is None else {"model": onto},
        "states": np.frombuffer(b"".join(blobs), np.uint8),
        "ends": ends,
    }
    return pack_parts("job", tree, seal=False)


def _told(task: Task) -> dict[str, Any]:
    return {
        "round": task.round,
        "arrays": task.arrays,
        "extra": dict(task.extra),
        "config": {key: ["value", value] for key, value in task.config.items()},
        "shared": list(task.shared),
    }


def _read_task(part: Mapping[str, Any]) -> Task:
    config = {key: pair[1] for key, pair in part["config"].items()}
    return Task(part["round"], part["arrays"], part["extra"], config, tuple(part["shared"]))


def _read_job(fd: int, length: int) -> tuple[list[Ask], list[bytes | None]]:
    tree = unpack("job", view(fd, length), verify=False)
    tasks, onto = {int(place): _read_task(part) for place, part in tree["tasks"].items()}, tree["onto"].get("model")
    # A model to move is the same for all; to those that began from it, it makes no difference.
    asks = [
        Ask(client, tree["kind"], tasks[place], own, phase, attempt, scale=scale, onto=onto)
        for client, place, attempt, phase, own, scale in tree["asks"]
    ]
    ends, blob = tree["ends"].tolist(), tree["states"]
    begins = [0, *ends[:-1]]
    states = [blob[a:b].tobytes() if b > a else None for a, b in zip(begins, ends, strict=True)]
    return asks, states


def work(index: int, program: Program, fds: Descriptors) -> None:
    """The life of worker `index`: until the parent closes its end."""
    one_thread_each(program.threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = Connection(fds.control)
    board, arena = Board(fds.board), Arena(fds.arena)
    gc.freeze()
    while True:
        try:
            job, length, blocks, fresh = control.recv()
        except (EOFError, OSError):
            return
        if fresh:
            arena.reset()
        board.open(blocks[-1])
        answer = _play(index, program, fds, board, arena, job, length, blocks)
        try:
            control.send(answer)
        except OSError:
            # The parent has died; nobody wants the answer.
            return


def _play(
    index: int,
    program: Program,
    fds: Descriptors,
    board: Board,
    arena: Arena,
    job: int,
    length: int,
    blocks: Sequence[int],
) -> tuple[Any, ...]:
    """Play the blocks of a job that come to this worker; `blocks` are their ends, the first's beginning before them."""
    asks: list[Ask] = []
    states: list[bytes | None] = []
    tally = Tally()
    refused: NotSupported | None = None
    try:
        for unit in take(fds.tokens, job):
            if not asks:
                asks, states = _read_job(fds.input, length)
            its = range(blocks[unit], blocks[unit + 1])
            for ask in its:
                board.start(ask, index)
            if refused is None:
                try:
                    some = slice(its.start, its.stop)
                    play_block(program, asks[some], states[some], tally, arena.allocate)
                except NotSupported as error:
                    refused = error
            for ask in its:
                board.finish(ask, index)
    except Exception:
        return ("broken", job, traceback.format_exc())
    if refused is not None:
        return ("refused", job, str(refused))
    plain, buffers = tally.export()
    return ("tally", job, plain, [arena.locate(buffer) for buffer in buffers])


def main(index: int, program: Program, fds: Descriptors, parent: int) -> None:
    """`work`, then leave without running what the parent meant to run at its own end."""
    code = 1
    die_with(parent)
    try:
        work(index, program, fds)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
