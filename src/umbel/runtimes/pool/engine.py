"""`PoolEngine`: workers play the clients of a phase side by side and send back one tally each."""

from __future__ import annotations

import math
import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from multiprocessing.connection import Connection, wait
from typing import Any, cast, final

from umbel.cohort import Receipts, clients_of, joined
from umbel.errors import EngineError, NotSupported
from umbel.message import Ask, Receipt
from umbel.runtimes.engine import Engine, Meanwhile, Progress
from umbel.runtimes.pool.board import STARTED, Board, put_tokens
from umbel.runtimes.pool.forking import ForkNursery, Nursery, SeedNursery, pair
from umbel.runtimes.pool.safety import why_not_fork
from umbel.runtimes.pool.worker import Descriptors, job_parts
from umbel.runtimes.program import Program
from umbel.runtimes.shared import Arena, SharedBytes, anonymous_file
from umbel.runtimes.tally import Tally

DEATHS = 2
"""After so many under one client's hands it has failed; after so many with one block its clients are played alone."""
LOOK_EVERY_S = 0.2


@final
@dataclass
class _Worker:
    index: int
    pid: int
    control: Connection
    arena: Arena


@final
@dataclass
class _Job:
    """What the parent knows of the turns in play."""

    blocks: Sequence[Sequence[Ask]]
    asks: Sequence[Ask]
    waiting: set[int]
    tallies: list[Tally] = field(default_factory=list[Tally])
    dead: list[int] = field(default_factory=list[int])


@final
class PoolEngine(Engine):
    """One single-threaded worker per core, alive for the whole run.

    A worker that dies takes its sums with it: every client folded into them is asked again. A client under whose hands
    workers died twice, or one that ran longer than `client_timeout`, has failed.

    Args:
        block: how many clients train together, those that can. A block is some that follow each other in the cohort;
            one whose worker died is played again as it was, because bits depend on who is in it. Once workers have
            died with it twice, its clients are played alone to find whose fault it is, and that is said.
    """

    elsewhere = True

    def __init__(self, program: Program, *, workers: int, client_timeout: float | None = None, block: int = 1) -> None:
        self.program, self.block = program, block
        self.client_timeout = client_timeout
        self.several_tasks = block == 1  # a block begins from one model
        self.size = workers
        self._nursery: Nursery | None = None
        self._workers: dict[int, _Worker] = {}
        self._input = SharedBytes(anonymous_file())
        self._board = Board(anonymous_file())
        self._tokens_out, self._tokens_in = os.pipe()
        self._job = 0
        self._next_index = 0
        self._costs: dict[str, float] = {}
        self._deaths: dict[str, int] = {}
        self._reasons: dict[str, str] = {}
        self._timed_out: set[str] = set()
        self._lost_arenas: list[Arena] = []
        self._closed = False

    def play(
        self,
        asks: Sequence[Ask],
        states: Mapping[str, bytes],
        progress: Progress | None = None,
        *,
        more: bool = False,
        meanwhile: Meanwhile | None = None,
    ) -> Tally:
        if not more:
            for arena in self._lost_arenas:
                arena.close()
            self._lost_arenas.clear()
            self._deaths.clear()
            self._timed_out.clear()
        total = Tally()
        left = self._longest_first([asks[at : at + self.block] for at in range(0, len(asks), self.block)])
        while left:
            tally, left = self._run(left, states, progress, meanwhile, more=more)
            total.absorb(tally)
            more, meanwhile = True, None
        self._learn(total.receipts)
        return total

    def _learn(self, receipts: Receipts) -> None:
        """Remember how long each client took."""
        for clients, seconds in receipts.seconds():
            self._costs.update(dict.fromkeys(clients, seconds))
        if len(self._costs) > 200_000:
            self._costs.clear()

    def prepare(self) -> None:
        """Start all workers now and not with the first job.

        Raises:
            EngineError: they cannot be started.
        """
        self._ensure_workers(self.size)

    def _longest_first(self, blocks: Sequence[Sequence[Ask]]) -> list[Sequence[Ask]]:
        """Those that took long the last time go first; unknown ones before all, in cohort order."""
        costs = self._costs
        return sorted(blocks, key=lambda block: -sum(costs.get(client, math.inf) for client in clients_of(block)))

    def _run(
        self,
        blocks: Sequence[Sequence[Ask]],
        states: Mapping[str, bytes],
        progress: Progress | None,
        meanwhile: Meanwhile | None,
        *,
        more: bool,
    ) -> tuple[Tally, list[Sequence[Ask]]]:
        """Play `blocks` once; returns the tally and the blocks that have to be played again."""
        asks, ends = joined(blocks), [0, *accumulate(map(len, blocks))]
        self._ensure_workers(min(self.size, len(blocks)))
        self._job += 1
        length = self._input.write(job_parts(asks, states))
        self._board.open(len(asks), clear=True)
        put_tokens(self._tokens_in, self._job, len(blocks), len(self._workers))
        job = _Job(blocks, asks, set(self._workers))
        for worker in list(self._workers.values()):
            try:
                worker.control.send((self._job, length, ends, not more))
            except OSError:
                self._died(worker, job)
        if meanwhile is not None:
            # Here, and not in a thread: what it finds (thread counts, generators, locks) is as it always is, and no
            # worker is forked while it works. Workers take their units from the pipe of tokens without this process.
            meanwhile()
        while job.waiting:
            self._listen(job, progress)
        total = Tally()
        for tally in job.tallies:
            total.absorb(tally)
        return total, self._again(job, total)

    def _listen(self, job: _Job, progress: Progress | None) -> None:
        controls = {self._workers[index].control: self._workers[index] for index in job.waiting}
        timeout = LOOK_EVERY_S if progress is not None or self.client_timeout is not None else None
        ready = wait(list(controls), timeout)
        for control in ready:
            worker = controls[cast("Connection", control)]
            try:
                self._take(worker, worker.control.recv(), job)
            except (EOFError, OSError):
                self._died(worker, job)
        if self.client_timeout is not None:
            self._stop_overdue(job)
        if progress is not None:
            progress(self._board.done(len(job.asks)), len(job.asks))

    def _take(self, worker: _Worker, message: tuple[Any, ...], job: _Job) -> None:
        kind, number, *rest = message
        if number != self._job:
            return
        job.waiting.discard(worker.index)
        if kind == "refused":
            raise NotSupported(rest[0])
        if kind == "broken":
            raise EngineError(f"a worker could not go on:\n{rest[0]}")
        plain, places = rest
        buffers = [worker.arena.open(*place)[: place[1]] for place in places]
        job.tallies.append(Tally.restore(self.program.strategy.reducer, plain, buffers))

    def _stop_overdue(self, job: _Job) -> None:
        assert self.client_timeout is not None
        for unit, index, seconds in list(self._board.running(len(job.asks))):
            worker = self._workers.get(index)
            if seconds > self.client_timeout and worker is not None and index in job.waiting:
                self._timed_out.add(job.asks[unit].client)
                os.kill(worker.pid, signal.SIGKILL)
                self._died(worker, job)

    def _died(self, worker: _Worker, job: _Job) -> None:
        """Forget a dead worker with all it had summed, and note which client it was playing."""
        assert self._nursery is not None
        how = self._nursery.bury(worker.pid)
        worker.control.close()
        del self._workers[worker.index]
        # Sums of earlier jobs of this phase may live in its arena and be part of the total: the memory stays.
        self._lost_arenas.append(worker.arena)
        job.waiting.discard(worker.index)
        job.dead.append(worker.index)
        for unit in self._board.of(worker.index, len(job.asks), STARTED):
            client = job.asks[unit].client
            self._deaths[client] = self._deaths.get(client, 0) + 1
            self._reasons[client] = how
        if not job.waiting and not self._workers and self._lost_too_many(job):
            raise EngineError(f"workers die before they begin ({how})")

    def _lost_too_many(self, job: _Job) -> bool:
        return self._board.done(len(job.asks)) == 0 and not self._deaths and self._next_index > 3 * self.size

    def _again(self, job: _Job, total: Tally) -> list[Sequence[Ask]]:
        """What to play again; those who are not asked again get a receipt in `total` that says why."""
        answered = set(total.receipts.clients())
        again: list[Sequence[Ask]] = []
        if len(answered) == len(job.asks):
            return again
        for block in job.blocks:
            # A worker's sums come whole or not at all: nobody of a block has answered without the others.
            if block[0].client in answered:
                continue
            if len(block) > 1:
                again += self._apart(block, total)
                continue
            (ask,) = block
            if ask.client in self._timed_out:
                reason = f"did not answer within client_timeout = {self.client_timeout:g} s"
            elif self._deaths.get(ask.client, 0) >= DEATHS:
                reason = f"its worker process died twice ({self._reasons[ask.client]})"
            else:
                again.append(block)
                continue
            total.receipts.append(Receipt(ask.client, ask.task.round, ask.attempt, "failed", reason=reason))
        return again

    def _apart(self, block: Sequence[Ask], total: Tally) -> list[Sequence[Ask]]:
        """A block as it was, or its clients one by one if workers died twice with it."""
        if self._deaths.get(block[0].client, 0) < DEATHS:
            return [block]
        total.warnings.append(
            f"worker processes died twice with a block of {len(block)} clients ({self._reasons[block[0].client]}); "
            "they were then played one by one, so the round's last bits can differ from those of a run without that"
        )
        # One death more, alone, and it was this one.
        self._deaths.update(dict.fromkeys(clients_of(block), DEATHS - 1))
        return [block[at : at + 1] for at in range(len(block))]

    def _ensure_workers(self, count: int) -> None:
        if self._closed:
            raise EngineError("the engine was closed")
        if self._nursery is None:
            self._nursery = self._found()
        while len(self._workers) < count:
            ours, theirs = pair()
            arena = Arena(anonymous_file())
            fds = Descriptors(theirs, self._tokens_out, self._input.fd, self._board.fd, arena.fd)
            index = self._new_index()
            pid = self._nursery.bear(index, fds, [ours, *(w.control.fileno() for w in self._workers.values())])
            os.close(theirs)
            self._workers[index] = _Worker(index, pid, Connection(ours), arena)

    def _new_index(self) -> int:
        """A number that no worker had, which stands for the device that has the fewest workers."""
        count = len(self.program.devices) or 1
        taken = Counter(worker % count for worker in self._workers)
        fewest = min(taken[place] for place in range(count))
        index = next(at for at in range(self._next_index, self._next_index + count) if taken[at % count] == fewest)
        self._next_index = index + 1
        return index

    def _found(self) -> Nursery:
        return ForkNursery(self.program) if why_not_fork() is None else SeedNursery(self.program)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for worker in self._workers.values():
            worker.control.close()
            os.kill(worker.pid, signal.SIGKILL)
        if self._nursery is not None:
            for worker in self._workers.values():
                self._nursery.bury(worker.pid)
            self._nursery.close()
        for arena in [*self._lost_arenas, *(worker.arena for worker in self._workers.values())]:
            arena.close()
        self._workers.clear()
        for fd in (self._tokens_out, self._tokens_in, self._input.fd, self._board.fd):
            os.close(fd)
