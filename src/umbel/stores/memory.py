"""The store of a run that need not outlive its process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

from umbel.errors import ConfigError, StoreError
from umbel.stores.abstract import Event, Part, RunInfo, Store
from umbel.stores.link import canonical, linked, opening
from umbel.stores.states import NEVER, States

STATE_BYTES = 2**30


@final
class MemoryStore(Store):
    """Keeps everything in this process. Checkpoint parts are kept as they are, not copied: they must not change.

    Args:
        state_bytes: how much memory states of clients may take, at least 0. Those not used for longest go to a
            temporary file without a name, which is gone with this process.

    Raises:
        ConfigError: the argument is not what it has to be.

    Example:
        >>> MemoryStore(state_bytes=16 * 2**20).runs()
        []
    """

    def __init__(self, *, state_bytes: int = STATE_BYTES) -> None:
        if not isinstance(state_bytes, int) or isinstance(state_bytes, bool) or state_bytes < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"state_bytes must be a whole number of at least 0, got {state_bytes!r}; try 2**30")
        self._runs: dict[str, RunInfo] = {}
        self._events: dict[str, list[bytes]] = {}
        self._heads: dict[str, str] = {}
        self._checkpoints: dict[str, dict[int, tuple[Part, ...]]] = {}
        self._states = States(state_bytes)

    def create(self, run: RunInfo) -> None:
        if run.id in self._runs:
            raise StoreError(f"there is a run {run.id} already; choose another id or resume it")
        self._runs[run.id] = run
        self._events[run.id], self._checkpoints[run.id] = [], {}

    def runs(self) -> list[RunInfo]:
        return list(self._runs.values())

    def _known(self, run: str) -> str:
        if run not in self._runs:
            raise StoreError(f"there is no run {run}")
        return run

    def set_status(self, run: str, status: str) -> None:
        self._runs[self._known(run)] = dataclasses.replace(self._runs[run], status=status)

    def set_plan(self, run: str, plan: Mapping[str, Any], event: Event | None = None) -> None:
        if event is not None:
            self.append(run, event)
        self._runs[self._known(run)] = dataclasses.replace(self._runs[run], plan=plan)

    def append(self, run: str, event: Event) -> None:
        log = self._events[self._known(run)]
        added = canonical(linked(event, self._heads.get(run) or opening(run)))
        log.append(added)
        self._heads[run] = hashlib.sha256(added).hexdigest()

    def log(self, run: str) -> list[Event]:
        return [json.loads(event) for event in self._events[self._known(run)]]

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
        kept = self._checkpoints[run]
        before = set(kept)
        since = max((number for number in before if number < round), default=NEVER)
        self._states.put(run, round, states, since=since)
        if checkpoint is None:
            return
        kept[round] = tuple(checkpoint)
        for number in [n for n in kept if n != round and n not in keep]:
            del kept[number]
        self._states.prune(run, before, kept)

    def checkpoints(self, run: str) -> list[int]:
        return sorted(self._checkpoints[self._known(run)])

    def checkpoint(self, run: str, round: int) -> bytes:
        try:
            return b"".join(self._checkpoints[self._known(run)][round])
        except KeyError:
            raise StoreError(f"run {run} has no checkpoint of round {round}") from None

    def state(self, run: str, client: str, round: int) -> bytes | None:
        return self._states.get(self._known(run), client, round)

    def states(self, run: str, clients: Sequence[str], round: int) -> dict[str, bytes]:
        self._known(run)
        return {} if self._states.are_none else super().states(run, clients, round)

    def forget(self, run: str, round: int) -> None:
        self._checkpoints[run] = {n: c for n, c in self._checkpoints[run].items() if n <= round}
        self._states.rewind(run, round)

    def close(self) -> None:
        self._states.close()
