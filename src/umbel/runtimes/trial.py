"""Which is faster for the clients at hand: one by one, or in blocks, and of how many?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import final

from umbel.arrays import Arrays
from umbel.block import BlockClient, Member
from umbel.local import run_steps
from umbel.local_client import LocalClient
from umbel.message import Context
from umbel.randomness import seed_process
from umbel.runtimes.threads import one_thread_each, threads_restored

SIZES = (8, 32, 128, 512)
STEPS, TIMES = 2, 3
GAIN = 1.25
"""Blocks round differently from the loop: they are taken where they are clearly faster."""
COPIES = 6
"""A block's memory in models per client: parameters, gradients, what a step makes of them, an optimiser's two."""
MOST_BYTES = 2**29
MOST_S = 2.0


@final
class _Steps:
    """A clock that tells how often it was looked at, which a training loop does once after each step."""

    def __init__(self) -> None:
        self.number = 0.0

    def __call__(self) -> float:
        self.number += 1.0
        return self.number


def best_block(client: LocalClient, ctx: Context, cohort: int, threads: int | None) -> int:
    """How many clients to train together; 1 is the loop.

    Two steps of real training are timed, in the loop and in blocks of one client beside itself; nothing is kept.

    Args:
        client: one of those that will train.
        cohort: how many are asked in a round.
    """
    sizes = [size for size in SIZES if size <= cohort]
    if not sizes or not isinstance(client, BlockClient) or "fit" not in client.capabilities:
        return 1
    begun, best, best_s = time.perf_counter(), 1, float("inf")
    with threads_restored():
        one_thread_each(threads)
        try:
            client.block_kind(ctx, {})
            start = client.parameters(ctx)
            best_s = _seconds(lambda: _loop(client, start, ctx)) / GAIN
            for size in sizes:
                if size * COPIES * start.nbytes > MOST_BYTES or time.perf_counter() - begun > MOST_S:
                    break
                each_s = _seconds(lambda: _block(client, start, ctx, size)) / size  # noqa: B023
                if each_s < best_s:
                    best, best_s = size, each_s
                elif best > 1:
                    break
        except Exception:
            # What is wrong with the client is told when it is its turn.
            return 1
        finally:
            seed_process(ctx.key)
    return best


def _seconds(work: Callable[[], object]) -> float:
    """The least of a few times; the first one pays for what is made once."""
    times: list[float] = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def _loop(client: BlockClient, start: Arrays, ctx: Context) -> None:
    seed_process(ctx.key)
    run_steps(client, start, replace(ctx, clock=_Steps(), ends_at_s=float(STEPS)), None)


def _block(client: BlockClient, start: Arrays, ctx: Context, size: int) -> None:
    client.train_block([Member(client, start, ctx, None)] * size, most_steps=STEPS)
