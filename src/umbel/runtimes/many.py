"""A block of clients of one source: trained without being built, checked and summed up at once."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from umbel.block import ClientSource, Trained
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
    if any(ask.scale != 1.0 or ask.onto is not None for ask in asks):
        return False  # what is stale is scaled update by update
    started = time.perf_counter()
    ctx = program.context(asks[0], None)
    correction = strategy.correction(asks[0], task.arrays, ctx)
    schema = task.arrays.schema.delta
    if any(segment.dtype not in PLAIN for segment in schema.segments):
        return False
    one_thread_each(program.threads)
    keys = [turn_key(program.seed, ask) if ask.key is None else ask.key for ask in asks]
    partitions = [program.partition_of(ask.client) for ask in asks]
    try:
        trained = source.train_many(task.arrays, ctx, partitions, keys, correction)
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


def _note(program: Program, asks: Sequence[Ask], trained: Trained, tally: Tally, seconds: float) -> None:
    for ask, examples, steps, loss in zip(asks, trained.examples, trained.steps, trained.losses, strict=True):
        told = measured(program, ask, {} if loss is None else {"loss": loss}, examples, tally)
        receipt = Receipt(ask.client, ask.task.round, ask.attempt, "done", examples, steps, seconds=seconds, loss=told)
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
