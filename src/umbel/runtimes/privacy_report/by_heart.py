"""A model that knows a few examples by heart: what membership inference has to find, or it shows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

from umbel.arrays import Arrays, Vector, moved
from umbel.local_client import StepClient
from umbel.message import Context
from umbel.optimizers import adam, initial_slots, optimize
from umbel.privacy.membership import Inference, by_loss

CLIENTS, MOST, STEPS, LR = 8, 16, 300, 0.1


@final
@dataclass(frozen=True)
class Party:
    """A client whose data are at hand."""

    client: StepClient
    ctx: Context

    def losses(self, model: Arrays, *, held_out: bool) -> list[float]:
        """Of each example that it trains on, or that it holds out."""
        return list(self.client.example_losses(model, self.ctx, held_out=held_out))


def memorised(parties: Sequence[Party], start: Arrays) -> Inference:
    """Membership by loss on models that each learnt a few examples of one client until they knew them.

    Args:
        parties: whose held-out examples are the others.
    """
    # Fewer than a model has numbers: so many even a linear one can learn by heart.
    few = max(2, min(MOST, start.schema.size // 4))
    largest = sorted(parties, key=lambda one: one.client.num_examples or 0, reverse=True)[:CLIENTS]
    members, others = list[float](), list[float]()
    for party in largest:
        model = by_heart(party, start, few)
        members += islice(party.client.example_losses(model, party.ctx), few)
        others += [loss for one in parties for loss in one.losses(model, held_out=True)]
    return by_loss(members, others)


def by_heart(party: Party, start: Arrays, few: int) -> Arrays:
    """`start` after many steps of Adam on the first `few` examples of a client."""
    server, model = adam(LR), start
    slots = initial_slots(server, start.schema)
    for _ in range(STEPS):
        total = Vector.zeros(start.schema.delta)
        for downhill in islice(party.client.example_gradients(model, party.ctx), few):
            total.values += Vector.of(downhill).values
        change, slots = optimize(server, total.scaled(1 / few), slots)
        model = moved(model, change)
    return model
