"""Clients that train together: what an engine needs to make one batched computation of several clients' training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.errors import NotSupported
from umbel.local import Correction
from umbel.local_client import Fitted, StepClient
from umbel.message import Context
from umbel.schema import Schema

ROW_BYTES = 64


@final
@dataclass(frozen=True)
class Member:
    """One client of a block, with what the strategy asks of it.

    Attributes:
        client: of the same kind as the block's others.
        start: the client's whole model before training.
        correction: what the strategy changes in each local gradient; of all members or of none, by one rule.
    """

    client: BlockClient
    start: Arrays
    ctx: Context
    correction: Correction | None


class BlockClient(StepClient):
    """An open client whose training can be one batched computation with that of others."""

    @abstractmethod
    def block_kind(self, ctx: Context) -> Hashable:
        """What is equal for clients that can train together.

        Raises:
            NotSupported: this one cannot; says why.
        """

    @classmethod
    @abstractmethod
    def train_block(cls, members: Sequence[Member], *, most_steps: int | None = None) -> list[Fitted]:
        """Train clients of one kind side by side: what each client's loop would give, but for rounding.

        Args:
            members: each after its `block_kind` was asked for.
            most_steps: stop after so many steps.

        Random choices of a model's own (dropout) depend on who is in the block.

        Raises:
            Exception: the model cannot be computed in a block.
        """


@final
@dataclass(frozen=True)
class Trained:
    """What came of the training of many clients.

    Attributes:
        rows: one row of bytes per client: its change `new - start`, in the layout of `start.schema.delta`.
        examples, steps, losses: of each client; the loss is the mean over what it trained on, None without any.
    """

    rows: NDArray[np.uint8]
    examples: Sequence[float]
    steps: Sequence[int]
    losses: Sequence[float | None]


@final
@dataclass(frozen=True)
class Descent:
    """What came of one gradient over the examples of many clients.

    Attributes:
        change: `-Σ wᵢ·∇Lᵢ(start) / Σ wᵢ` with Lᵢ client i's mean loss, in the schema `start.schema.delta`.
        examples, losses: of each client; the loss is Lᵢ, None without examples.
    """

    change: Arrays
    examples: Sequence[float]
    losses: Sequence[float | None]


@final
@dataclass(frozen=True)
class Assessed:
    """What came of the evaluation of one model by many clients.

    Attributes:
        examples, losses: of each client; the loss is the mean over its examples.
        metrics: name → each client's mean.
    """

    examples: Sequence[float]
    losses: Sequence[float]
    metrics: Mapping[str, Sequence[float]]


def blank_rows(schema: Schema, count: int) -> NDArray[np.uint8]:
    """Memory for the arrays of many clients, a row of bytes for each, with headers and without values."""
    header = len(schema.header)
    memory = np.empty((count, -(-schema.nbytes // ROW_BYTES) * ROW_BYTES), np.uint8)
    memory[:, :header] = schema.header_array
    return memory


class ClientSource(ABC):
    """A `client_fn` that knows all its clients' data, and can train many of them without building any."""

    @abstractmethod
    def __call__(self, context: Context) -> StepClient:
        """One client, built as by any `client_fn`."""

    @abstractmethod
    def train_many(
        self, start: Arrays, ctx: Context, partitions: Sequence[int], keys: Sequence[int], correction: Correction | None
    ) -> Trained:
        """Train the clients of these partitions from `start`, side by side.

        Args:
            ctx: the first client's context.
            keys: the root of each one's randomness.
            correction: one without arrays of its own.

        Raises:
            NotSupported: such clients cannot train so; says why.
        """

    def gradient_many(self, start: Arrays, ctx: Context, partitions: Sequence[int], *, uniform: bool) -> Descent:
        """One gradient over all examples of the clients of these partitions, as one large batch.

        Args:
            start: the model.
            ctx: the first client's context.
            uniform: each client with examples weighs the same; else each example does.

        Raises:
            NotSupported: such clients give their gradients one by one; says why.
        """
        raise NotSupported(f"{type(self).__name__} gives gradients client by client")

    def evaluate_many(self, model: Arrays, ctx: Context, partitions: Sequence[int]) -> Assessed:
        """Let the clients of these partitions evaluate one model at once.

        Args:
            ctx: the first client's context.

        Raises:
            NotSupported: such clients cannot evaluate so; says why.
        """
        raise NotSupported(f"{type(self).__name__} evaluates client by client")
