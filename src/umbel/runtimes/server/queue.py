"""`Queue`: whose turn it is. Federations take turns for the runs that a server leads at once, within their quotas."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from umbel.identity.federation import Federation


@final
@dataclass
class _Waiting:
    federation: str
    number: int
    reason: str = "it has not had its turn yet"


@final
@dataclass
class Queue:
    """Runs that have their turn, and runs that wait for it.

    A free place goes to the federation with the fewest runs under way, and within it to the run that came first. A
    run gives its place back while its federation is over quota. Methods may be called from several threads.

    Args:
        places: how many runs have their turn at once.
        federation: the federation of a name, as it is now.
        why_over: says why a federation may not begin another round; None lets it.
    """

    places: int
    federation: Callable[[str], Federation]
    why_over: Callable[[Federation], str | None]
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _turns: dict[str, str] = field(default_factory=dict[str, str])
    _waiting: dict[str, _Waiting] = field(default_factory=dict[str, _Waiting])
    _numbers: dict[str, int] = field(default_factory=dict[str, int])

    def enter(self, run: str, federation: str) -> None:
        """A run waits for its turn."""
        with self._lock:
            # A number of its own for life: who gave its place back over quota is not behind those that came later.
            number = self._numbers[run] = self._numbers.get(run) or 1 + max(self._numbers.values(), default=0)
            self._waiting[run] = _Waiting(federation, number)

    def leave(self, run: str) -> None:
        """A run is over, or waits no longer."""
        with self._lock:
            self._turns.pop(run, None)
            self._waiting.pop(run, None)
            self._numbers.pop(run, None)

    def why_not(self, run: str) -> str | None:
        """Why a run may not begin its next round now; None lets it."""
        with self._lock:
            name = self._turns.get(run)
            if name is not None:
                over = self.why_over(self.federation(name))
                if over is None:
                    return None
                del self._turns[run]
                self.enter(run, name)
                self._waiting[run].reason = over
        return self.reason(run)

    def reason(self, run: str) -> str | None:
        """Why a run waits, as of the last look; None has its turn or is not here."""
        with self._lock:
            found = self._waiting.get(run)
            return None if found is None else found.reason

    def why_full(self, federation: Federation) -> str | None:
        """Why a run that is begun now would wait for its federation's quota; None would not."""
        with self._lock:
            here = [*self._turns.values(), *(one.federation for one in self._waiting.values())]
            most = federation.runs_at_once
            if most is not None and here.count(federation.name) >= most:
                return f"the federation has {most} runs under way, which is all it may have at once; stop one, or wait"
            return self.why_over(federation)

    def look(self) -> list[str]:
        """Give free places to those whose turn it is; returns their runs."""
        with self._lock:
            given: list[str] = []
            names = {one.federation for one in self._waiting.values()}
            federations = {name: self.federation(name) for name in names}
            over = {name: self.why_over(found) for name, found in federations.items()}
            while (run := self._next(federations, over)) is not None:
                self._turns[run] = self._waiting.pop(run).federation
                given.append(run)
            return given

    def _next(self, federations: dict[str, Federation], over: dict[str, str | None]) -> str | None:
        under_way = list(self._turns.values())
        can: list[tuple[int, int, str]] = []
        for run, waiting in self._waiting.items():
            count, most = under_way.count(waiting.federation), federations[waiting.federation].runs_at_once
            if (reason := over[waiting.federation]) is not None:
                waiting.reason = reason
            elif most is not None and count >= most:
                waiting.reason = f"its federation has {count} runs under way, which is all it may have at once"
            elif len(under_way) >= self.places:
                waiting.reason = f"{len(under_way)} runs are under way, which is all this server leads at once"
            else:
                can.append((count, waiting.number, run))
        return min(can)[2] if can else None
