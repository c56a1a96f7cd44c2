"""What earlier rounds have shown: how much work each client is, and how fast each node."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import final

from umbel.message import Ask, Receipt
from umbel.runtimes.ray.node import Node
from umbel.runtimes.ray.pace import Pace, fitted

CALLS = 32
CLIENTS = 200_000


@final
class Experience:
    """Remembers the last calls of each node and the examples of each client."""

    def __init__(self) -> None:
        self._examples: dict[str, float] = {}
        self._calls: dict[tuple[str, str], deque[tuple[float, float]]] = {}
        self._paces: dict[tuple[str, str], Pace] = {}

    def learn(self, receipts: Iterable[Receipt]) -> None:
        """Remember how many examples these clients have."""
        if len(self._examples) > CLIENTS:
            self._examples.clear()
        self._examples.update((receipt.client, receipt.examples) for receipt in receipts if receipt.examples > 0)

    def works(self, asks: Sequence[Ask]) -> list[tuple[Ask, float]]:
        """Each ask with its work: the client's examples over their mean here, 1 where they are not known."""
        known = [self._examples[ask.client] for ask in asks if ask.client in self._examples]
        mean = sum(known) / len(known) if known else 1.0
        return [(ask, self._examples.get(ask.client, mean) / mean) for ask in asks]

    def played(self, node: str, kind: str, work: float, seconds: float) -> None:
        """A call with so much work took a node so long."""
        calls = self._calls.setdefault((node, kind), deque(maxlen=CALLS))
        calls.append((work, seconds))
        self._paces[node, kind] = fitted(calls)

    def paces(self, kind: str, nodes: Iterable[Node]) -> dict[str, Pace]:
        """The pace of each node; one that is not known yet is taken to be as fast as others, worker for worker."""
        taking = list(nodes)
        known = {node.id: pace for node in taking if (pace := self._paces.get((node.id, kind))) is not None}
        seen = [known[node.id].b_s * node.workers for node in taking if node.id in known]
        usual = sum(seen) / len(seen) if seen else 1.0
        return {node.id: known.get(node.id, Pace(0.0, usual / node.workers)) for node in taking}
