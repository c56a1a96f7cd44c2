"""The asks and receipts of a cohort, kept in columns: the object for one client is made where one is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final, overload

from umbel.message import Ask, Kind, Receipt, Task


@final
@dataclass(frozen=True)
class Asks(Sequence[Ask]):
    """One ask for each of `clients`, alike but for the client."""

    clients: Sequence[str]
    kind: Kind
    task: Task
    attempt: int = 0

    def __len__(self) -> int:
        return len(self.clients)

    @overload
    def __getitem__(self, index: int) -> Ask: ...
    @overload
    def __getitem__(self, index: slice) -> Asks: ...
    def __getitem__(self, index: int | slice) -> Ask | Asks:
        if isinstance(index, slice):
            return Asks(self.clients[index], self.kind, self.task, self.attempt)
        return Ask(self.clients[index], self.kind, self.task, attempt=self.attempt)


def are_whole(asks: Sequence[Ask]) -> bool:
    """Whether all of them may take their whole time."""
    return isinstance(asks, Asks) or all(ask.share >= 1 for ask in asks)


def clients_of(asks: Sequence[Ask]) -> Sequence[str]:
    """Who is asked."""
    return asks.clients if isinstance(asks, Asks) else [ask.client for ask in asks]


def joined(parts: Sequence[Sequence[Ask]]) -> Sequence[Ask]:
    """Parts of one sequence, perhaps in another order, as one again; in columns if it was."""
    first = parts[0]
    if isinstance(first, Asks) and all(isinstance(part, Asks) for part in parts):
        clients = [client for part in parts for client in clients_of(part)]
        return Asks(clients, first.kind, first.task, first.attempt)
    return [ask for part in parts for ask in part]


@final
@dataclass(frozen=True)
class Done:
    """The receipts of clients that trained together and all succeeded.

    Attributes:
        clients, examples, steps: of each client.
        seconds: of each one's turn, which is its share of the whole.
        losses: of each client, where the plan's selector hears of it.
    """

    clients: Sequence[str]
    round: int
    attempt: int
    examples: Sequence[float]
    steps: Sequence[int]
    seconds: float
    losses: Sequence[float | None] | None = None

    def __iter__(self) -> Iterator[Receipt]:
        losses = [None] * len(self.clients) if self.losses is None else self.losses
        for client, examples, steps, loss in zip(self.clients, self.examples, self.steps, losses, strict=True):
            yield Receipt(client, self.round, self.attempt, "done", examples, steps, seconds=self.seconds, loss=loss)


@final
class Receipts:
    """Receipts of a phase in the order in which they came."""

    __slots__ = ("_parts", "done")

    def __init__(self, receipts: Iterable[Receipt] = ()) -> None:
        self._parts: list[Receipt | Done] = []
        self.done = 0
        """How many of them succeeded."""
        for receipt in receipts:
            self.append(receipt)

    def append(self, receipt: Receipt) -> None:
        self._parts.append(receipt)
        self.done += receipt.verdict == "done"

    def add(self, done: Done) -> None:
        """Add those of a block."""
        self._parts.append(done)
        self.done += len(done.clients)

    def absorb(self, other: Receipts) -> None:
        """Add what `other` holds."""
        self._parts += other._parts
        self.done += other.done

    def __len__(self) -> int:
        return sum(1 if isinstance(part, Receipt) else len(part.clients) for part in self._parts)

    def __iter__(self) -> Iterator[Receipt]:
        for part in self._parts:
            if isinstance(part, Receipt):
                yield part
            else:
                yield from part

    def clients(self) -> list[str]:
        """Who has answered."""
        found: list[str] = []
        for part in self._parts:
            if isinstance(part, Receipt):
                found.append(part.client)
            else:
                found += part.clients
        return found

    def failures(self) -> list[Receipt]:
        """Those that did not succeed."""
        return [part for part in self._parts if isinstance(part, Receipt) and part.verdict != "done"]

    def steps(self) -> list[tuple[str, int]]:
        """(client, steps) of those that succeeded."""
        found: list[tuple[str, int]] = []
        for part in self._parts:
            if isinstance(part, Done):
                found += zip(part.clients, part.steps, strict=True)
            elif part.verdict == "done":
                found.append((part.client, part.steps))
        return found

    def seconds(self) -> Iterator[tuple[Sequence[str], float]]:
        """(clients, the seconds that each of them took)."""
        for part in self._parts:
            yield ([part.client], part.seconds) if isinstance(part, Receipt) else (part.clients, part.seconds)

    def __getstate__(self) -> tuple[list[Receipt | Done], int]:
        return self._parts, self.done

    def __setstate__(self, state: tuple[list[Receipt | Done], int]) -> None:
        self._parts, self.done = state
