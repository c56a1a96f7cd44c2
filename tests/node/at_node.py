"""A node's client with its vault, without a network: letters go in, answers come out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from umbel.arrays import Arrays
from umbel.runtimes.mail import Answer, Letter, read_answer
from umbel.runtimes.node.host import Host
from umbel.runtimes.node.keyed import KeyedWorker
from umbel.runtimes.node.worker import played


class AtNode:
    """One run at one node.

    Args:
        plan: as the node completes it, with `floors` and `enrolled`.
    """

    def __init__(self, client_fn: Any, plan: Mapping[str, Any], name: str) -> None:
        self.seen: list[Letter] = []
        """What reached the client's process."""
        self._client_fn, self._name = client_fn, name
        self.worker = KeyedWorker(self, name)  # type: ignore[arg-type]
        self.host: Host | None = None
        asyncio.run(self.worker.start("run", plan))

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        self.host = Host(self._client_fn, plan, self._name)
        return self.host.facts

    async def play(self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> Any:
        self.seen.append(letter)
        return played(self.host, letter, blobs, memory)

    def answer(self, letter: Letter, blobs: Mapping[str, Arrays]) -> Answer:
        """What is sent back."""
        done = asyncio.run(self.worker.play("run", letter, blobs, None))
        return read_answer(memoryview(b"".join(map(bytes, done.parts))))

    @property
    def vault(self):
        return self.worker._sums["run"].keeper
