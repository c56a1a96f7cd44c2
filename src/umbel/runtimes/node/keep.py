"""What a node keeps between asks: its client's states, and the answer that is not settled yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

from umbel.runtimes.mail import Basis
from umbel.wire.protobuf import Bytes


@final
@dataclass(frozen=True)
class KeptTurn:
    """A turn that was worked on.

    Attributes:
        state: the client's afterwards; None if it has none.
        about: says to which ask it is the answer.
    """

    run: str
    round: int
    attempt: int
    state: bytes | None
    answer: Sequence[Bytes]
    about: str


class Keeper(Protocol):
    """Keeps what a node must not lose; each call is durable when it returns."""

    def state(self, run: str, basis: Basis) -> bytes | None:
        """The client's state of (round, attempt)."""
        ...

    def keep(self, done: KeptTurn) -> None:
        """Keep a finished answer, and the state that goes with it."""
        ...

    def answer(self, run: str, round: int, attempt: int, about: str) -> Sequence[Bytes] | None:
        """The finished answer to the very same ask, if it is still kept."""
        ...

    def settle(self, run: str, round: int, attempt: int, *, included: bool) -> None:
        """Forget the answer; keep its state if it was included, and forget all others then."""
        ...

    def forget(self, run: str) -> None:
        """The run is over."""
        ...


@final
@dataclass
class _Run:
    states: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])
    answers: dict[tuple[int, int], tuple[str, Sequence[Bytes]]] = field(
        default_factory=dict[tuple[int, int], tuple[str, Sequence[Bytes]]]
    )


@final
class MemoryKeeper:
    """Keeps everything in this process: a script's client, which ends with it."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def _run(self, run: str) -> _Run:
        return self._runs.setdefault(run, _Run())

    def state(self, run: str, basis: Basis) -> bytes | None:
        return None if basis is None else self._run(run).states.get(basis)

    def keep(self, done: KeptTurn) -> None:
        kept = self._run(done.run)
        kept.answers = {(done.round, done.attempt): (done.about, done.answer)}
        if done.state is not None:
            kept.states[done.round, done.attempt] = done.state

    def answer(self, run: str, round: int, attempt: int, about: str) -> Sequence[Bytes] | None:
        found = self._run(run).answers.get((round, attempt))
        return found[1] if found is not None and found[0] == about else None

    def settle(self, run: str, round: int, attempt: int, *, included: bool) -> None:
        kept = self._run(run)
        kept.answers.pop((round, attempt), None)
        if included and (round, attempt) in kept.states:
            # Of the states before, the newest stays: a server that is set back a checkpoint asks for it.
            older = sorted(place for place in kept.states if place < (round, attempt))
            for place in older[:-2]:
                del kept.states[place]
        elif not included:
            kept.states.pop((round, attempt), None)

    def forget(self, run: str) -> None:
        self._runs.pop(run, None)
