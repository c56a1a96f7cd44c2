"""`check_client`: the laws that every client keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel.clients import as_client
from umbel.local import train
from umbel.local_client import LocalClient
from umbel.message import Context
from umbel.randomness import seed_process
from umbel.testing.expect import expect, same_bits


def check_client(client_fn: Callable[[Context], Any]) -> None:
    """Run the laws: a fresh client and one that is used again give the same bits, and the given model stays as it was.

    Args:
        client_fn: what `simulate` takes; asked for partition 0.

    Raises:
        AssertionError: names the law that is broken.
    """

    def context() -> Context:
        seed_process(1)
        return Context("0", 0, 2, round=1, key=1)

    def build() -> LocalClient:
        return as_client(client_fn(context()))

    first = build()
    start = first.parameters(context())
    before = start.digest
    seed_process(1)
    trained = train(first, start, context())
    expect(start.digest == before, "fit changed the arrays that the server sent, in place")
    expect(trained.examples >= 0, f"fit reported {trained.examples} examples")
    seed_process(1)
    reused = train(first, start, context())
    same_bits(trained.arrays, reused.arrays, "a client that is used again")
    fresh_client = build()
    seed_process(1)
    fresh = train(fresh_client, start, context())
    same_bits(trained.arrays, fresh.arrays, "a fresh client")
    if "evaluate" in first.capabilities:
        one = first.evaluate_arrays(start, context())
        two = build().evaluate_arrays(start, context())
        expect((one.loss, one.examples) == (two.loss, two.examples), "evaluating the same model twice gave two results")
        expect(start.digest == before, "evaluate changed the arrays that the server sent, in place")
