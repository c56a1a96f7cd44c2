"""The engine for debugging and small runs: one client after the other, in this process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

from umbel.cohort import clients_of
from umbel.message import Ask
from umbel.runtimes.blocks import play_block
from umbel.runtimes.engine import Engine, Meanwhile, Progress
from umbel.runtimes.program import Program
from umbel.runtimes.tally import Tally
from umbel.runtimes.threads import threads_restored
from umbel.runtimes.turn import ClientTimeout, play


@final
class SerialEngine(Engine):
    """Plays clients in cohort order. A `client_timeout` works in the main thread only, and not for blocks.

    Args:
        block: how many clients train together, those that can; 1 plays one after the other.
    """

    def __init__(self, program: Program, *, client_timeout: float | None = None, block: int = 1) -> None:
        self.program = program
        self.client_timeout = client_timeout
        self.several_tasks = block == 1  # a block begins from one model
        self.block = block

    def play(
        self,
        asks: Sequence[Ask],
        states: Mapping[str, bytes],
        progress: Progress | None = None,
        *,
        more: bool = False,
        meanwhile: Meanwhile | None = None,
    ) -> Tally:
        if meanwhile is not None:
            meanwhile()
        tally = Tally()
        with threads_restored():
            for start in range(0, len(asks), self.block):
                some = asks[start : start + self.block]
                if self.block > 1:
                    memories = [states.get(client) for client in clients_of(some)]
                    play_block(self.program, some, memories, tally)
                else:
                    ask = some[0]
                    play(self.program, ask, states.get(ask.client), tally, limit=_alarm(self.client_timeout))
                if progress is not None:
                    progress(start + len(some), len(asks))
        return tally

    def close(self) -> None:
        return None


@contextmanager
def _alarm(seconds: float | None) -> Generator[None]:
    if seconds is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise ClientTimeout(f"did not answer within client_timeout = {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
