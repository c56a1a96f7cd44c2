"""`RayEngine`: a pool of workers on every node of a Ray cluster, and one tally for all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from umbel.errors import EngineError
from umbel.message import Ask, Task
from umbel.runtimes.cluster import Cluster
from umbel.runtimes.engine import Engine, Meanwhile, Progress
from umbel.runtimes.parcel import task_tree
from umbel.runtimes.pool.seed import dump
from umbel.runtimes.program import Program
from umbel.runtimes.ray.experience import Experience
from umbel.runtimes.ray.fleet import Fleet
from umbel.runtimes.ray.library import RayError, ray
from umbel.runtimes.ray.phase import Phase
from umbel.runtimes.ray.resident import Errand
from umbel.runtimes.tally import Tally
from umbel.wire import pack_parts


@final
class RayEngine(Engine):
    """One resident actor per node, which owns that node's pool.

    An actor or node that is lost takes the call with it that it was playing; its clients are asked again. So it is
    with sums that were lost in a node's store. If an actor ends and its node lives on, one of the clients in play may
    have taken it along: they are asked again in calls of half the size, and one that was alone at two deaths has
    failed.
    """

    def __init__(
        self,
        program: Program,
        *,
        cluster: Cluster | None = None,
        workers: int | None = None,
        client_timeout: float | None = None,
    ) -> None:
        self.program = program
        errand = Errand(dump(program), [place or os.getcwd() for place in sys.path], client_timeout)
        self._fleet = Fleet(cluster or Cluster(), errand, workers, program.threads or 1)
        self._experience = Experience()
        self._sent: tuple[Task, Any] | None = None
        self._closed = False

    def prepare(self) -> None:
        try:
            self._fleet.gather()
        except RayError as error:
            raise EngineError(f"Ray could not begin ({type(error).__name__}: {error})") from error

    def play(
        self,
        asks: Sequence[Ask],
        states: Mapping[str, bytes],
        progress: Progress | None = None,
        *,
        more: bool = False,
        meanwhile: Meanwhile | None = None,
    ) -> Tally:
        # Calls are dealt out in turn: nodes would stand idle while this process does something else.
        if meanwhile is not None:
            meanwhile()
        if self._closed:
            raise EngineError("the engine was closed")
        try:
            self._fleet.gather()
            task = self._in_store(asks[0].task)
            tally = Phase(self.program, self._fleet, self._experience, task, asks, states, progress).play()
        except RayError as error:
            raise EngineError(f"Ray could not go on ({type(error).__name__}: {error})") from error
        self._experience.learn(tally.receipts)
        return tally

    def _in_store(self, task: Task) -> Any:
        """What stands for the task in Ray's store: it is put there once, and a node fetches it once."""
        if self._sent is None or self._sent[0] is not task:
            parts = pack_parts("task", task_tree(task), seal=False)
            self._sent = task, ray.put(np.concatenate([np.frombuffer(part, np.uint8) for part in parts]))
        return self._sent[1]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._sent = None
            self._fleet.close()
