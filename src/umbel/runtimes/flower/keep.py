"""`StatesOnly`: what a node in the server's process keeps between asks: its client's states, and no update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

from umbel.runtimes.mail import Basis
from umbel.runtimes.node.keep import KeptTurn, MemoryKeeper
from umbel.wire.protobuf import Bytes


@final
class StatesOnly:
    """Lets an answer go as soon as it is sent.

    A node elsewhere keeps its answer until the server has it for good. Here that would be the server itself keeping the
    updates of a whole cohort until the round's end.
    """

    def __init__(self) -> None:
        self._states = MemoryKeeper()

    def state(self, run: str, basis: Basis) -> bytes | None:
        return self._states.state(run, basis)

    def keep(self, done: KeptTurn) -> None:
        self._states.keep(replace(done, answer=()))

    def answer(self, run: str, round: int, attempt: int, about: str) -> Sequence[Bytes] | None:
        return None

    def settle(self, run: str, round: int, attempt: int, *, included: bool) -> None:
        self._states.settle(run, round, attempt, included=included)

    def forget(self, run: str) -> None:
        self._states.forget(run)
