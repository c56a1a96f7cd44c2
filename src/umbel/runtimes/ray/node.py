"""`Node`: one node of the cluster that plays, with its actor and what it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from umbel.message import Ask


@final
@dataclass(frozen=True)
class Sent:
    """A call that is out. `note` and `sums` stand for what will come back."""

    asks: list[tuple[Ask, float]]
    note: Any
    sums: Any
    at_s: float

    @property
    def work(self) -> float:
        return sum(work for _, work in self.asks)


@final
@dataclass
class Node:
    """One node.

    Attributes:
        workers: how many clients it plays at a time.
        starting: comes once its workers are there; None from then on.
        replaced: an actor was lost here before.
        sent: the call that it plays.
        look: comes with how many clients of the call have had their turn.
        done: what it said last.
    """

    id: str
    address: str
    workers: int
    actor: Any
    starting: Any | None
    replaced: bool = False
    sent: Sent | None = None
    look: Any | None = None
    done: int = 0

    @property
    def idle(self) -> bool:
        return self.starting is None and self.sent is None

    @property
    def counts(self) -> bool:
        """Whether work may be planned for it: a node that has just been lost may not come back."""
        return self.starting is None or not self.replaced

    def awaited(self) -> list[Any]:
        """What may come from it next."""
        refs = [self.starting, self.look, None if self.sent is None else self.sent.note]
        return [ref for ref in refs if ref is not None]
