"""`Resident`: the actor that lives on a node, and what it says to the driver."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel import __version__
from umbel.arrays import Arrays
from umbel.errors import EngineError, NotSupported, said
from umbel.message import Ask, Kind
from umbel.runtimes.parcel import task_in
from umbel.runtimes.pool import PoolEngine
from umbel.runtimes.program import Program
from umbel.runtimes.tally import Tally
from umbel.wire import unpack

Exported: TypeAlias = tuple[dict[str, Any], list[NDArray[np.uint8]]]


@final
@dataclass(frozen=True)
class Errand:
    """What every resident is told: the program as bytes, and where its modules are found."""

    program: bytes
    path: Sequence[str]
    client_timeout: float | None
    version: str = __version__


@final
@dataclass(frozen=True)
class Call:
    """Some asks of a phase without their task; `own`, `phase`, `attempt`, `scale`, `share` and `onto` as in `Ask`."""

    kind: Kind
    asks: Sequence[tuple[str, Mapping[str, Any], int, int, float, float]]
    states: Mapping[str, bytes]
    onto: Arrays | None = None

    @classmethod
    def of(cls, asks: Sequence[Ask], states: Mapping[str, bytes]) -> Call:
        told = [(ask.client, dict(ask.own), ask.phase, ask.attempt, ask.scale, ask.share) for ask in asks]
        return cls(asks[0].kind, told, {c: states[c] for c, *_ in told if c in states}, asks[0].onto)


@final
@dataclass(frozen=True)
class Answer:
    """How a call went: `note` is its tally without the sums, or `refused` or `broken` says why there is none.

    `summed` tells whether there are sums.
    """

    note: Exported | None = None
    summed: bool = False
    refused: str | None = None
    broken: str | None = None


@final
class Resident:
    """Owns a pool of workers on its node for the whole run. Its methods are called by the driver, over Ray."""

    def __init__(self, errand: Errand, workers: int) -> None:
        self._errand, self._workers = errand, workers
        self._program: Program
        self._engine: PoolEngine
        self._done = 0

    def ready(self) -> str | None:
        """Answers once the workers are there: None, or why there will never be any."""
        if self._errand.version != __version__:
            return f"it has Umbel {__version__}, and the driver {self._errand.version}; install the same"
        # Modules are found where the driver finds them, as far as these folders are here, too.
        sys.path.extend(place for place in self._errand.path if place not in sys.path)
        try:
            self._program = pickle.loads(self._errand.program)
            timeout = self._errand.client_timeout
            self._engine = PoolEngine(self._program, workers=self._workers, client_timeout=timeout)
            self._engine.prepare()
        except Exception as error:
            return f"{type(error).__name__}: {said(error)}"
        return None

    def done(self) -> int:
        """How many clients of the present call have had their turn."""
        return self._done

    def play(self, frame: NDArray[np.uint8], call: Call) -> tuple[Answer, Exported | None]:
        """Let these clients take their turns; the sums stay in this node's store until somebody wants them."""
        task = task_in(unpack("task", frame, verify=False))
        asks = [
            Ask(client, call.kind, task, own, phase, attempt, scale=scale, onto=call.onto, share=share)
            for client, own, phase, attempt, scale, share in call.asks
        ]
        self._done = 0
        try:
            tally = self._engine.play(asks, call.states, self._count)
        except NotSupported as error:
            return Answer(refused=str(error)), None
        except EngineError as error:
            return Answer(broken=str(error)), None
        sums = None if tally.accumulator is None else Tally(tally.accumulator, schema=tally.schema).export()
        tally.accumulator = tally.schema = None
        return Answer(note=tally.export(), summed=sums is not None), sums

    def _count(self, done: int, total: int) -> None:
        self._done = done

    def merge(self, one: Exported, other: Exported) -> Exported:
        """Two partial sums as one."""
        total = opened(self._program, one)
        total.absorb(opened(self._program, other))
        return total.export()


def opened(program: Program, exported: Exported) -> Tally:
    """An exported tally in memory of its own: what lies in Ray's store can only be read."""
    plain, buffers = exported
    return Tally.restore(program.strategy.reducer, plain, [buffer.copy() for buffer in buffers])
