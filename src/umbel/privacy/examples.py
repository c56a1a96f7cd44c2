"""Sums over the gradients of single examples, of which none moves them by more than its clip."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.errors import NotSupported
from umbel.local import TrainedApart
from umbel.local_client import LocalClient, StepClient
from umbel.privacy.clip import clipped
from umbel.privacy.promised import Promised
from umbel.randomness import seed_process
from umbel.schema import Schema


def opened(client: LocalClient) -> StepClient:
    """The client, whose training loop may be entered.

    Raises:
        NotSupported: it may not.
    """
    if isinstance(client, StepClient):
        return client
    if isinstance(client, TrainedApart):
        raise NotSupported("it asks for gradients of single examples")
    raise NotSupported(
        f'unit="example" clips each example\'s gradient, which {type(client).__name__} does not give; use '
        "TorchClient or GradientClient"
    )


def _each_at_random(gradients: Iterable[Arrays]) -> Iterator[Arrays]:
    """The gradients, each from ambient randomness of its own.

    From one stream, which a seed tells, an example more would give all that follow it other dropout masks.
    """
    them = iter(gradients)
    while True:
        seed_process(secrets.randbits(63))
        try:
            yield next(them)
        except StopIteration:
            return


def summed(gradients: Iterable[Arrays], schema: Schema, strategy: Promised, bits: int) -> Vector:
    """Σ clip(gᵢ), each number a multiple of a grid.

    Nothing in here may depend on one example by more than its clip: a gradient that is not finite counts as 0.

    Args:
        schema: of the gradients.
        bits: how much finer than the clip the grid is.
    """
    bound, total = strategy.plan.bound, Vector.zeros(schema)
    for gradient in _each_at_random(gradients):
        if np.isfinite(Vector.of(gradient).values).all():
            total.values += Vector.of(clipped(gradient, bound, bits, strategy.layers(gradient))[0]).values
    return total
