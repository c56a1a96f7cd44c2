"""A block of clients of one source: they train or evaluate without being built, and are checked and summed at once."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard, final, overload

import numpy as np
from numpy.typing import NDArray

from umbel.block import ClientSource
from umbel.cohort import Asks, Done, clients_of
from umbel.dtypes import DTYPES
from umbel.errors import NotSupported
from umbel.message import Ask
from umbel.reducers.abstract import RowAccumulator
from umbel.reducers.ladder import Allocate
from umbel.runtimes.program import Program, turn_key
from umbel.runtimes.tally import Tally
from umbel.runtimes.threads import one_thread_each
from umbel.runtimes.turn import measured
from umbel.schema import Schema
from umbel.strategies.averaging import Averaging
from umbel.strategy import Strategy

PLAIN = ("F32", "I64", "I32", "I16", "I8", "U8")
"""Of these no finite value times a weight is more than a sum can hold."""


def play_many(program: Program, asks: Sequence[Ask], tally: Tally, allocate: Allocate | None = None) -> bool:
    """Play a block of asks at once; False if it has to be played client by client.

    Raises:
        NotSupported: the clients cannot do it in blocks; says why.
    """
    source = program.client_fn
    if not isinstance(source, ClientSource):
        return False
    one_thread_each(program.threads)
    if asks[0].kind == "evaluate":
        return _evaluate(source, program, asks, tally)
    if gives_one_gradient(program.strategy):
        return _descend(source, program, asks, tally, allocate)
    return _fit(source, program, asks, tally, allocate)


def sums_rows(strategy: Strategy) -> TypeGuard[Averaging]:
    """Whether a strategy's clients may train unbuilt, and their changes be summed as the rows of a matrix."""
    if not isinstance(strategy, Averaging) or not strategy.plain or strategy.patterns:
        return False
    return strategy.reducer.folds_rows


def gives_one_gradient(strategy: Strategy) -> TypeGuard[Averaging]:
    """Whether the gradients of a strategy's clients may be computed as one, of all their examples."""
    if not isinstance(strategy, Averaging) or not strategy.one_gradient or strategy.patterns:
        return False
    return strategy.reducer.folds_rows


def _descend(
    source: ClientSource, program: Program, asks: Sequence[Ask], tally: Tally, allocate: Allocate | None
) -> bool:
    strategy, task = program.strategy, asks[0].task
    assert isinstance(strategy, Averaging)
    if _is_stale(asks) or any(segment.dtype not in PLAIN for segment in task.arrays.schema.delta.segments):
        return False
    started = time.perf_counter()
    ctx = program.context(asks[0], None)
    partitions = [program.partition_of(client) for client in clients_of(asks)]
    uniform = strategy.weighting == "uniform"
    try:
        found = source.gradient_many(task.arrays, ctx, partitions, uniform=uniform)
    except NotSupported:
        raise
    except Exception:
        return False  # as below
    row = found.change.buffer[None]
    if not _finite(row, found.change.schema).all():
        return False
    accumulator = tally.started(strategy.reducer, strategy.schema(task, asks[0].own), allocate)
    assert isinstance(accumulator, RowAccumulator)
    weights = [float(examples > 0) if uniform else examples for examples in found.examples]
    # One row stands for all: it has the weight of all, the others have none.
    whole = [math.fsum(weights), *[0.0] * (len(asks) - 1)]
    accumulator.fold_rows({"delta": np.broadcast_to(row, (len(asks), row.shape[1]))}, {"delta": whole})
    seconds = (time.perf_counter() - started) / len(asks)
    steps = [int(examples > 0) for examples in found.examples]
    done = Done(clients_of(asks), task.round, asks[0].attempt, found.examples, steps, seconds)
    _note(program, asks, done, {"loss": found.losses}, tally)
    return True


def _is_stale(asks: Sequence[Ask]) -> bool:
    """Whether what comes back is scaled update by update."""
    return not isinstance(asks, Asks) and any(ask.scale != 1.0 or ask.onto is not None for ask in asks)


def _fit(source: ClientSource, program: Program, asks: Sequence[Ask], tally: Tally, allocate: Allocate | None) -> bool:
    strategy, task = program.strategy, asks[0].task
    if not sums_rows(strategy):
        return False
    if _is_stale(asks):
        return False
    started = time.perf_counter()
    ctx = program.context(asks[0], None)
    correction = strategy.correction(asks[0], task.arrays, ctx)
    schema = task.arrays.schema.delta
    if any(segment.dtype not in PLAIN for segment in schema.segments):
        return False
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
    seconds = (time.perf_counter() - started) / len(asks)
    _note(
        program,
        asks,
        Done(clients_of(asks), task.round, asks[0].attempt, trained.examples, trained.steps, seconds),
        {"loss": trained.losses},
        tally,
    )
    return True


def _evaluate(source: ClientSource, program: Program, asks: Sequence[Ask], tally: Tally) -> bool:
    task = asks[0].task
    if task.shared:
        return False  # each has a model of its own
    started = time.perf_counter()
    try:
        ctx = program.context(asks[0], None)
        assessed = source.evaluate_many(task.arrays, ctx, [program.partition_of(name) for name in clients_of(asks)])
    except NotSupported:
        raise
    except Exception:
        return False  # as above
    if not all(map(math.isfinite, assessed.losses)):
        return False
    seconds = (time.perf_counter() - started) / len(asks)
    done = Done(clients_of(asks), task.round, asks[0].attempt, assessed.examples, [0] * len(asks), seconds)
    _note(program, asks, done, {"loss": assessed.losses, **assessed.metrics}, tally)
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


def _note(
    program: Program, asks: Sequence[Ask], done: Done, metrics: Mapping[str, Sequence[float | None]], tally: Tally
) -> None:
    known = {name: [v for v in values if v is not None and math.isfinite(v)] for name, values in metrics.items()}
    if program.per_client_metrics or any(len(values) < len(asks) for values in known.values()):
        for place, (ask, examples) in enumerate(zip(asks, done.examples, strict=True)):
            # Without examples a client has a loss of 0, as alone, and no other metric.
            names = [name for name in metrics if metrics[name][place] is not None and (examples or name == "loss")]
            own = {name: metrics[name][place] for name in names}
            measured(program, ask, own, examples, tally)
    else:
        tally.measure_many(done.examples, known)
    if program.hears is not None and program.hears in metrics and asks[0].kind == "fit":
        done = replace(done, losses=[v if v is not None and math.isfinite(v) else None for v in metrics[program.hears]])
    if isinstance(asks, Asks):
        tally.receipts.add(done)
        return
    for ask, receipt in zip(asks, done, strict=True):
        tally.receipts.append(replace(receipt, attempt=ask.attempt))


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
