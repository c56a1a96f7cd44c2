"""The store of a run that need not outlive its process."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

from umbel.errors import StoreError
from umbel.stores.abstract import Event, Part, RunInfo, Store


@final
class MemoryStore(Store):
    """Keeps everything in this process. Checkpoint parts are kept as they are, not copied: they must not change."""

    def __init__(self) -> None:
        self._runs: dict[str, RunInfo] = {}
        self._events: dict[str, list[Event]] = {}
        self._checkpoints: dict[str, dict[int, tuple[Part, ...]]] = {}
        self._states: dict[str, dict[str, dict[int, bytes]]] = {}

    def create(self, run: RunInfo) -> None:
        if run.id in self._runs:
            raise StoreError(f"there is a run {run.id} already; choose another id or resume it")
        self._runs[run.id] = run
        self._events[run.id], self._checkpoints[run.id], self._states[run.id] = [], {}, {}

    def runs(self) -> list[RunInfo]:
        return list(self._runs.values())

    def _known(self, run: str) -> str:
        if run not in self._runs:
            raise StoreError(f"there is no run {run}")
        return run

    def set_status(self, run: str, status: str) -> None:
        self._runs[self._known(run)] = dataclasses.replace(self._runs[run], status=status)

    def set_plan(self, run: str, plan: Mapping[str, Any]) -> None:
        self._runs[self._known(run)] = dataclasses.replace(self._runs[run], plan=plan)

    def append(self, run: str, event: Event) -> None:
        self._events[self._known(run)].append(event)

    def events(self, run: str) -> list[Event]:
        return copy.deepcopy(self._events[self._known(run)])

    def commit(
        self,
        run: str,
        event: Event,
        *,
        round: int,
        checkpoint: Sequence[Part] | None,
        states: Mapping[str, bytes],
        keep: Collection[int],
    ) -> None:
        self.append(run, event)
        for client, state in states.items():
            self._states[run].setdefault(client, {})[round] = state
        if checkpoint is None:
            return
        kept = self._checkpoints[run]
        kept[round] = tuple(checkpoint)
        for number in [n for n in kept if n != round and n not in keep]:
            del kept[number]
        self._prune(run, min(kept))

    def _prune(self, run: str, oldest: int) -> None:
        for versions in self._states[run].values():
            needed = max((n for n in versions if n <= oldest), default=oldest)
            for number in [n for n in versions if n < needed]:
                del versions[number]

    def checkpoints(self, run: str) -> list[int]:
        return sorted(self._checkpoints[self._known(run)])

    def checkpoint(self, run: str, round: int) -> bytes:
        try:
            return b"".join(self._checkpoints[self._known(run)][round])
        except KeyError:
            raise StoreError(f"run {run} has no checkpoint of round {round}") from None

    def state(self, run: str, client: str, round: int) -> bytes | None:
        versions = self._states[self._known(run)].get(client, {})
        latest = max((n for n in versions if n <= round), default=None)
        return None if latest is None else versions[latest]

    def states(self, run: str, clients: Sequence[str], round: int) -> dict[str, bytes]:
        return super().states(run, clients, round) if self._states[self._known(run)] else {}

    def rewind(self, run: str, round: int) -> None:
        self._events[self._known(run)] = [e for e in self._events[run] if e.get("round", 0) <= round]
        self._checkpoints[run] = {n: c for n, c in self._checkpoints[run].items() if n <= round}
        for versions in self._states[run].values():
            for number in [n for n in versions if n > round]:
                del versions[number]
