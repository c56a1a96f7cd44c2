"""Where a node's client does its work: a thread of this process, or (for `umbel node`) a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from typing import Any, Protocol, final

from umbel.arrays import Arrays
from umbel.errors import NotSupported
from umbel.runtimes.mail import Answer, Letter
from umbel.runtimes.node.host import Host


class Worker(Protocol):
    """Plays the clients of runs, one turn at a time."""

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Make ready for a run; returns what its client can.

        Raises:
            UmbelError: the client cannot take part; says why.
        """
        ...

    async def play(
        self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None
    ) -> tuple[Answer, bytes | None]:
        """One turn: the answer and the client's new state, if it has one."""
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

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        if run not in self._hosts:
            loop = asyncio.get_running_loop()
            self._hosts[run] = await loop.run_in_executor(self._executor, self._host, plan)
        return self._hosts[run].facts

    def _host(self, plan: Mapping[str, Any]) -> Host:
        return Host(
            self._client_fn,
            plan,
            self._name,
            partition=self._partition,
            threads=self._threads,
            packages=self._packages,
        )

    async def play(
        self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None
    ) -> tuple[Answer, bytes | None]:
        host = self._hosts.get(run)
        if host is None:
            raise NotSupported(f"run {run} was not begun here")
        host.clock.ends_at_s = time.monotonic() + letter.left_s
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, host.play, letter, blobs, memory)

    def hurry(self, run: str, left_s: float) -> None:
        host = self._hosts.get(run)
        if host is not None:
            host.clock.ends_at_s = min(host.clock.ends_at_s, time.monotonic() + left_s)

    def stop(self, run: str) -> None:
        self._hosts.pop(run, None)
