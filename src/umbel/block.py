"""Clients that train together: what an engine needs to make one batched computation of several clients' training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, final

from umbel.arrays import Arrays
from umbel.local import Correction
from umbel.local_client import Fitted, StepClient
from umbel.message import Context


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
    def block_kind(self, ctx: Context, known: dict[Any, Any]) -> Hashable:
        """What is equal for clients that can train together.

        Args:
            known: what was found out about others of the same block; nothing that they share changes in between.

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
