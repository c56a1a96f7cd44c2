"""`Experience`: what a selector has learned of clients, as plain data, and of how many of them at most."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.message import Receipt


@final
@dataclass(frozen=True)
class Seen:
    """What is known of one client that was asked.

    Attributes:
        loss: the last loss that it reported; None if it never reported one.
        examples: how many examples it trained on then.
        took_s: how long its answer took, on the run's clock; None where there is no time.
        round: the last round in which it took part.
        picks: in how many rounds it took part.
    """

    loss: float | None = None
    examples: float = 0.0
    took_s: float | None = None
    round: int = 0
    picks: int = 0


@final
@dataclass(frozen=True)
class Experience:
    """What was learned in the rounds up to `round`.

    Attributes:
        clients: those that were asked, by name; the one that took part longest ago comes first.
        numbers: what else a selector keeps, as plain data.
    """

    round: int = 0
    clients: Mapping[str, Seen] = field(default_factory=dict[str, Seen])
    numbers: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def after(self, round: int, receipts: Iterable[Receipt], most: int) -> Experience:
        """What is known after a round.

        A client that failed, or reported no loss, keeps the loss that it had. The order of the receipts makes no
        difference.

        Args:
            most: how many clients are remembered; those that took part longest ago are forgotten.
        """
        clients = dict(self.clients)
        for receipt in sorted(receipts, key=lambda receipt: receipt.client):
            # Taken out and put in again, it is the last one.
            clients[receipt.client] = _after(clients.pop(receipt.client, Seen()), round, receipt)
        for client in list(clients)[: max(len(clients) - most, 0)]:
            del clients[client]
        return Experience(round, clients, self.numbers)

    def plain(self) -> dict[str, Any]:
        """Plain data from which `of` makes the same again: names in one text, numbers in one run of bytes.

        A checkpoint is written after each round, and a row of its own for each client would take seconds.
        """
        packed = np.ascontiguousarray(columns(self.clients.values()).T, "<f8").tobytes()
        return {
            "round": self.round,
            "clients": json.dumps(list(self.clients)),
            "seen": packed,
            "numbers": dict(self.numbers),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Experience:
        names = json.loads(plain["clients"])
        rows = np.frombuffer(plain["seen"], "<f8").reshape(len(names), 5).tolist()
        return cls(plain["round"], {name: _seen(*row) for name, row in zip(names, rows, strict=True)}, plain["numbers"])


def columns(seen: Collection[Seen]) -> NDArray[np.float64]:
    """Loss, examples, took_s, round and picks, an element per client in each; what is not known is NaN."""
    rows = [(s.loss, s.examples, s.took_s, s.round, s.picks) for s in seen]
    return np.array(rows, np.float64).reshape(len(rows), 5).T


def _seen(loss: float, examples: float, took_s: float, round: float, picks: float) -> Seen:
    return Seen(_known(loss), examples, _known(took_s), int(round), int(picks))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _after(seen: Seen, round: int, receipt: Receipt) -> Seen:
    took_part = replace(seen, round=round, picks=seen.picks + 1)
    if receipt.verdict != "done":
        return took_part
    took_s = seen.took_s if receipt.took_s is None else receipt.took_s
    loss = seen.loss if receipt.loss is None else receipt.loss
    return replace(took_part, loss=loss, examples=receipt.examples, took_s=took_s)
