"""A block of clients of one source: trained without being built, checked and summed up at once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import final, overload

import numpy as np
from numpy.typing import NDArray

from umbel.block import ClientSource, Trained
from umbel.cohort import Asks, Done, clients_of
from umbel.dtypes import DTYPES
from umbel.errors import NotSupported
from umbel.message import Ask, Receipt
from umbel.reducers.abstract import RowAccumulator
from umbel.reducers.ladder import Allocate
from umbel.runtimes.program import Program, turn_key
from umbel.runtimes.tally import Tally
from umbel.runtimes.threads import one_thread_each
from umbel.runtimes.turn import measured
from umbel.schema import Schema
from umbel.strategies.averaging import Averaging

PLAIN = ("F32", "I64", "I32", "I16", "I8", "U8")
"""Of these no finite value times a weight is more than a sum can hold."""


def play_many(program: Program, asks: Sequence[Ask], tally: Tally, allocate: Allocate | None = None) -> bool:
    """Play a block of fits at once; False if it has to be played client by client.

    Raises:
        NotSupported: the clients cannot train in blocks; says why.
    """
    source, strategy, task = program.client_fn, program.strategy, asks[0].task
    if not isinstance(source, ClientSource) or not isinstance(strategy, Averaging):
        return False
    if not strategy.plain or strategy.patterns or not strategy.reducer.folds_rows:
        return False
    if not isinstance(asks, Asks) and any(ask.scale != 1.0 or ask.onto is not None for ask in asks):
        return False  # what is stale is scaled update by update
    started = time.perf_counter()
    ctx = program.context(asks[0], None)
    correction = strategy.correction(asks[0], task.arrays, ctx)
    schema = task.arrays.schema.delta
    if any(segment.dtype not in PLAIN for segment in schema.segments):
        return False
    one_thread_each(program.threads)
    partitions = [program.partition_of(client) for client in clients_of(asks)]
    try:
        trained = source.train_many(task.arrays, ctx, partitions, _Keys(program, asks), correction)
    except NotSupported:
        raise
    except Exception:
        # One client's rows can be the cause: played one by one it is told which.
        return False
    good = _finite(trained.rows, schema)
    if not good.all():
        return False
    uniform = strategy.weighting == "uniform"
    weights = [float(examples > 0) if uniform else examples for examples in trained.examples]
    accumulator = tally.started(strategy.reducer, strategy.schema(task, asks[0].own), allocate)
    assert isinstance(accumulator, RowAccumulator)
    accumulator.fold_rows({"delta": trained.rows}, {"delta": weights})
    _note(program, asks, trained, tally, (time.perf_counter() - started) / len(asks))
    return True


@final
class _Keys(Sequence[int]):
    """The roots of the clients' randomness, each drawn when it is wanted."""

    def __init__(self, program: Program, asks: Sequence[Ask]) -> None:
        self.program, self.asks = program, asks

    def __len__(self) -> int:
        return len(self.asks)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return _Keys(self.program, self.asks[index])
        ask = self.asks[index]
        return turn_key(self.program.seed, ask) if ask.key is None else ask.key


def _note(program: Program, asks: Sequence[Ask], trained: Trained, tally: Tally, seconds: float) -> None:
    losses = [loss for loss in trained.losses if loss is not None and math.isfinite(loss)]
    if len(losses) == len(asks) and not program.per_client_metrics:
        tally.measure_many(trained.examples, "loss", losses)
    else:
        for ask, examples, loss in zip(asks, trained.examples, trained.losses, strict=True):
            measured(program, ask, {} if loss is None else {"loss": loss}, examples, tally)
    if isinstance(asks, Asks):
        done = Done(asks.clients, asks.task.round, asks.attempt, trained.examples, trained.steps, seconds)
        tally.receipts.add(done)
        return
    for ask, examples, steps in zip(asks, trained.examples, trained.steps, strict=True):
        receipt = Receipt(ask.client, ask.task.round, ask.attempt, "done", examples, steps, seconds=seconds)
        tally.receipts.append(receipt)


def _finite(rows: NDArray[np.uint8], schema: Schema) -> NDArray[np.bool_]:
    """Which rows hold finite values only."""
    good = np.ones(len(rows), np.bool_)
    header = len(schema.header)
    for segment in schema.segments:
        if segment.dtype == "F32":
            begin = header + segment.offset_bytes
            values = rows[:, begin : begin + segment.size * DTYPES["F32"].itemsize].view(np.float32)
            good &= np.isfinite(values).all(axis=1)
    return good
