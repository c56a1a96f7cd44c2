"""`Timeline`: the simulated clock, the turns that are under way, and what turns have cost."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, final

from umbel.message import Task
from umbel.runtimes.system.model import SystemModel, Turn

_TURN = attrgetter(*(field.name for field in dataclasses.fields(Turn)))


@final
class Timeline:
    """Simulated time. It goes on by events: to the end of the turn that ends first, or to a deadline.

    Args:
        system: what turns take.
        seed: the run's.
    """

    def __init__(self, system: SystemModel, seed: int) -> None:
        self.system, self.seed = system, seed
        self.now_s = 0.0
        self.tasks: dict[int, Task] = {}
        """The task of each round from which a turn is under way."""
        self._queue: list[tuple[float, int, Turn]] = []
        self._started = 0
        self._bill = _Bill()

    @property
    def flying(self) -> int:
        """How many turns are under way."""
        return len(self._queue)

    @property
    def next_s(self) -> float:
        """When the next turn ends; infinite if none does."""
        return self._queue[0][0] if self._queue else math.inf

    def clock(self) -> float:
        """The time, as a clock tells it."""
        return self.now_s

    def start(
        self,
        clients: Sequence[str],
        round: int,
        attempt: int,
        bytes_down: int,
        bytes_up: int,
        due_s: float = math.inf,
    ) -> None:
        """Ask these clients now. Of those that end at the same time, who was asked first comes first.

        Args:
            due_s: when their answers count at the latest; where work may be partial they stop in time for that.
        """
        for client in clients:
            turn = self.system.turn(
                client,
                round,
                self.now_s,
                seed=self.seed,
                attempt=attempt,
                bytes_down=bytes_down,
                bytes_up=bytes_up,
            )
            turn = turn.cut(due_s) if self.system.partial else turn
            heapq.heappush(self._queue, (turn.ends_s, self._started, turn))
            self._started += 1
            self._bill.sent += bytes_down

    def pop(self) -> Turn:
        """Go on to the end of the turn that ends first."""
        self.now_s, _, turn = heapq.heappop(self._queue)
        self._bill.joules.append(turn.joules())
        self._bill.received += 0 if turn.lost else turn.bytes_up
        return turn

    def advance(self, time_s: float) -> None:
        """Go on to `time_s`; time never goes back."""
        self.now_s = max(self.now_s, time_s)

    def abandon(self) -> None:
        """Call off all turns that are under way."""
        self._bill.joules += [turn.joules(self.now_s) for _, _, turn in self._queue]
        self._queue.clear()
        self.tasks.clear()

    def forget(self) -> None:
        """Let go of the tasks from which no turn is under way."""
        versions = {turn.round for _, _, turn in self._queue}
        self.tasks = {version: task for version, task in self.tasks.items() if version in versions}

    def folded(self, staleness: Sequence[int]) -> None:
        """Note by how many steps the model was ahead of each update that was taken."""
        self._bill.staleness += staleness

    def account(self) -> dict[str, Any]:
        """The time, and what was spent since the last call."""
        bill, self._bill = self._bill, _Bill()
        found: dict[str, Any] = {
            "simulated_s": self.now_s,
            "bytes_sent": bill.sent,
            "bytes_received": bill.received,
            "joules": math.fsum(bill.joules),
        }
        if bill.staleness:
            found["staleness"] = sum(bill.staleness) / len(bill.staleness)
        return found

    def mark(self) -> Any:
        """What `reset` needs to go back to this moment."""
        return self.now_s, list(self._queue), self._started, self._bill.copied()

    def reset(self, mark: Any) -> None:
        """Go back to where `mark` was taken."""
        now_s, queue, started, bill = mark
        self.now_s, self._queue, self._started, self._bill = now_s, list(queue), started, bill.copied()

    def state(self) -> dict[str, Any]:
        """Plain data and arrays from which `restore` continues."""
        turns = [[number, *_TURN(turn)] for _, number, turn in sorted(self._queue, key=_first_two)]
        tasks = {str(version): _told(task) for version, task in self.tasks.items()}
        return {"timeline": {"now_s": self.now_s, "started": self._started, "turns": turns, "tasks": tasks}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        found = state["timeline"]
        self.now_s, self._started = found["now_s"], found["started"]
        turns = [(number, Turn(*values)) for number, *values in found["turns"]]
        self._queue = [(turn.ends_s, number, turn) for number, turn in turns]
        heapq.heapify(self._queue)
        self.tasks = {int(version): _read(int(version), task) for version, task in found["tasks"].items()}


@final
@dataclasses.dataclass
class _Bill:
    """What was spent since the last round."""

    sent: int = 0
    received: int = 0
    joules: list[float] = dataclasses.field(default_factory=list[float])
    staleness: list[int] = dataclasses.field(default_factory=list[int])

    def copied(self) -> _Bill:
        return _Bill(self.sent, self.received, list(self.joules), list(self.staleness))


def _first_two(entry: tuple[float, int, Turn]) -> tuple[float, int]:
    return entry[:2]


def _told(task: Task) -> dict[str, Any]:
    # Keys that a user chose stand beside no key of ours.
    config = {key: ["value", value] for key, value in task.config.items()}
    return {"arrays": task.arrays, "extra": dict(task.extra), "config": config, "shared": list(task.shared)}


def _read(round: int, found: Mapping[str, Any]) -> Task:
    config = {key: pair[1] for key, pair in found["config"].items()}
    return Task(round, found["arrays"], found["extra"], config, tuple(found["shared"]))
