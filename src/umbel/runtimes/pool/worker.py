"""What a worker does: wait for a job, play the units it gets, send one tally back."""

from __future__ import annotations

import gc
import os
import pickle
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.cohort import Asks, clients_of
from umbel.errors import NotSupported
from umbel.message import Ask
from umbel.runtimes.blocks import play_block
from umbel.runtimes.lineage import die_with
from umbel.runtimes.parcel import task_in, task_tree
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
    clients = clients_of(asks)
    names = [client.encode() for client in clients]
    blobs = [states.get(client, b"") for client in clients] if states else []
    tree = {
        **(_alike(asks) if isinstance(asks, Asks) else _each(asks)),
        "names": np.frombuffer(b"".join(names), np.uint8),
        "name_ends": np.cumsum([len(name) for name in names]),
        "states": np.frombuffer(b"".join(blobs), np.uint8),
        "ends": np.cumsum([len(blob) for blob in blobs]),
    }
    return pack_parts("job", tree, seal=False)


def _alike(asks: Asks) -> dict[str, Any]:
    """What asks have in common that differ in the client alone."""
    return {"kind": asks.kind, "tasks": {"0": task_tree(asks.task)}, "attempt": asks.attempt}


def _each(asks: Sequence[Ask]) -> dict[str, Any]:
    """What each of these asks is."""
    tasks = list({id(ask.task): ask.task for ask in asks}.values())
    places = {id(task): place for place, task in enumerate(tasks)}
    onto = next((ask.onto for ask in asks if ask.onto is not None), None)
    return {
        "kind": asks[0].kind,
        "tasks": {str(place): task_tree(task) for place, task in enumerate(tasks)},
        "onto": {} if onto is None else {"model": onto},
        "places": np.array([places[id(ask.task)] for ask in asks]),
        "attempts": np.array([ask.attempt for ask in asks]),
        "scales": np.array([ask.scale for ask in asks], np.float64),
        "shares": np.array([ask.share for ask in asks], np.float64),
        "own": {str(place): [ask.phase, dict(ask.own)] for place, ask in enumerate(asks) if ask.own or ask.phase},
    }


@final
class _Job:
    """A job as its workers see it: an ask is made when its block is played."""

    def __init__(self, fd: int, length: int) -> None:
        self._tree: Any = unpack("job", view(fd, length), verify=False)
        self._tasks = {int(place): task_in(part) for place, part in self._tree["tasks"].items()}
        # A model to move is the same for all; to those that began from it, it makes no difference.
        self._onto: Arrays | None = self._tree.get("onto", {}).get("model")

    def block(self, start: int, stop: int) -> tuple[Sequence[Ask], list[bytes | None]]:
        """The asks of a block, and what their clients remember."""
        tree = self._tree
        names = [name.decode() for name in _pieces(tree["names"], tree["name_ends"], start, stop)]
        asks: Sequence[Ask]
        if "attempt" in tree:
            asks = Asks(names, tree["kind"], self._tasks[0], tree["attempt"])
        else:
            numbers = (tree[key][start:stop].tolist() for key in ("places", "attempts", "scales", "shares"))
            asks = [self._ask(at, each) for at, each in enumerate(zip(names, *numbers, strict=True), start)]
        if not len(tree["ends"]):
            return asks, [None] * len(asks)
        return asks, [piece or None for piece in _pieces(tree["states"], tree["ends"], start, stop)]

    def _ask(self, at: int, own: tuple[str, int, int, float, float]) -> Ask:
        name, place, attempt, scale, share = own
        phase, settings = self._tree["own"].get(str(at), (0, {}))
        task = self._tasks[place]
        kind, onto = self._tree["kind"], self._onto
        return Ask(name, kind, task, settings, phase, attempt, scale=scale, onto=onto, share=share)


def _pieces(data: NDArray[np.uint8], ends: NDArray[np.int64], start: int, stop: int) -> list[bytes]:
    """Pieces of bytes that lie one after the other, from their ends."""
    first = 0 if start == 0 else int(ends[start - 1])
    whole = data[first : int(ends[stop - 1])].tobytes()
    bounds: list[int] = [0, *(ends[start:stop] - first).tolist()]
    return [whole[begin:end] for begin, end in pairwise(bounds)]


def work(index: int, program: Program, fds: Descriptors) -> None:
    """The life of worker `index`: until the parent closes its end."""
    program = program.at(index)
    one_thread_each(program.threads)
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
    the_job: _Job | None = None
    tally = Tally()
    refused: NotSupported | None = None
    try:
        for unit in take(fds.tokens, job):
            the_job = the_job or _Job(fds.input, length)
            its = range(blocks[unit], blocks[unit + 1])
            board.start(its, index)
            if refused is None:
                try:
                    asks, states = the_job.block(its.start, its.stop)
                    play_block(program, asks, states, tally, arena.allocate)
                except NotSupported as error:
                    refused = error
            board.finish(its, index)
    except Exception:
        return ("broken", job, traceback.format_exc())
    if refused is not None:
        return ("refused", job, str(refused))
    plain, buffers = tally.export()
    return ("tally", job, plain, [arena.locate(buffer) for buffer in buffers])


def main(index: int, loaded: Program | bytes, fds: Descriptors, parent: int) -> None:
    """`work`, then leave without running what the parent meant to run at its own end.

    Args:
        loaded: the program, or its bytes where it must not be loaded before a fork.
    """
    code = 1
    die_with(parent)
    try:
        work(index, pickle.loads(loaded) if isinstance(loaded, bytes) else loaded, fds)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
