"""Where a node's client does its work: here a thread of this process, for scripts. `process` has one of its own."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol, final

from umbel.arrays import Arrays
from umbel.errors import NotSupported, UmbelError
from umbel.runtimes.mail import Answer, Letter, seal_answer
from umbel.runtimes.node.host import Host, PlainClock
from umbel.runtimes.room import fresh
from umbel.runtimes.turn import sentence
from umbel.wire.protobuf import Bytes


class NotBegun(Exception):
    """A client cannot be built; the text says why."""


@final
@dataclass(frozen=True)
class Finished:
    """A turn's outcome.

    Attributes:
        parts: the answer's frame, as it travels.
        digest: the SHA-256 of the frame.
        verdict: the answer's.
        state: the client's new state; None if it has none, or the one before.
        reason: the answer's.
    """

    parts: Sequence[Bytes]
    digest: bytes
    verdict: str
    state: bytes | None = None
    reason: str = ""

    @property
    def nbytes(self) -> int:
        return sum(len(part) for part in self.parts)


def without(letter: Letter, verdict: str, reason: str) -> Finished:
    """An answer that has nothing but a reason."""
    place = (letter.run, letter.round, letter.attempt, letter.kind, letter.client)
    return Finished(*seal_answer(Answer(*place, verdict=verdict, reason=reason)), verdict, reason=reason)


def forgetful(letter: Letter) -> Finished:
    """The answer to an ask that goes on from a state of the client's that is not here."""
    assert letter.basis is not None
    reason = (
        f"this node does not have its client's state of round {letter.basis[0]} (was its folder removed?); "
        "start a new run, or put the folder back"
    )
    return without(letter, "failed", reason)


def digest_of(*parts: Bytes) -> bytes:
    """SHA-256 of parts of one frame."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.digest()


class Worker(Protocol):
    """Plays the clients of runs, one turn at a time."""

    def room(self, nbytes: int) -> memoryview:
        """Memory for arrays that turns will be played with, where the client can read them."""
        ...

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Make ready for a run; returns what its client can.

        Raises:
            UmbelError: the client cannot take part; says why.
            NotBegun: it cannot be built.
        """
        ...

    async def play(self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> Finished:
        """One turn.

        Raises:
            NotSupported: the run was not begun here.
        """
        ...

    def hurry(self, run: str, left_s: float) -> None:
        """The turn under way has to end in so many seconds."""
        ...

    def stop(self, run: str) -> None:
        """The run is over."""
        ...


@final
class LocalWorker:
    """Works in this process, on an executor's thread.

    Args:
        client_fn: builds the client.
        executor: where user code runs; one thread of it at a time is used.
        name: the client's id.
    """

    def __init__(
        self,
        client_fn: Callable[..., Any],
        executor: Executor,
        name: str,
        *,
        partition: int | None = None,
        threads: int | None = None,
        packages: Collection[str] = (),
    ) -> None:
        self._client_fn, self._executor, self._name = client_fn, executor, name
        self._partition, self._threads, self._packages = partition, threads, packages
        self._hosts: dict[str, Host] = {}
        self._plans: dict[str, Mapping[str, Any]] = {}
        # Turns are played one after the other, so that one clock does for all runs.
        self._clock = PlainClock()

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        if run not in self._hosts or self._plans.get(run) != plan:
            loop = asyncio.get_running_loop()
            self._hosts[run] = await loop.run_in_executor(self._executor, self._host, plan)
            self._plans[run] = plan
        return self._hosts[run].facts

    def room(self, nbytes: int) -> memoryview:
        return fresh(nbytes)

    def _host(self, plan: Mapping[str, Any]) -> Host:
        try:
            return Host(
                self._client_fn,
                plan,
                self._name,
                partition=self._partition,
                threads=self._threads,
                packages=self._packages,
                clock=self._clock,
            )
        except UmbelError:
            raise
        except (Exception, SystemExit) as error:
            raise NotBegun(sentence(error)) from error

    async def play(self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> Finished:
        host = self._hosts.get(run)
        if host is None:
            raise NotSupported(f"run {run} was not begun here")
        self._clock.ends_at_s = time.monotonic() + letter.left_s
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, played, host, letter, blobs, memory)

    def hurry(self, run: str, left_s: float) -> None:
        self._clock.ends_at_s = min(self._clock.ends_at_s, time.monotonic() + left_s)

    def stop(self, run: str) -> None:
        self._hosts.pop(run, None)


def played(host: Host, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> Finished:
    """One turn of a host's, written."""
    answer, state = host.play(letter, blobs, memory)
    return Finished(*seal_answer(answer), answer.verdict, state, answer.reason)
