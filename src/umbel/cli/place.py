"""Where a command looks for runs: in a store on this machine, or at a server."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from umbel.cli.options import opened, with_store
from umbel.cli.remote import Remote, remote, with_server
from umbel.stores import RunInfo, RunReader
from umbel.stores.abstract import Event
from umbel.stores.legible import check_event

Command = TypeVar("Command", bound=Callable[..., Any])


@final
@dataclass(frozen=True)
class Place:
    """The options `--store`, `--server`, `--as` and `--insecure` together."""

    path: Path
    server: str | None
    user: Path
    insecure: bool

    @contextmanager
    def opened(self) -> Generator[RunReader]:
        """The store, or the server's as far as it can be read from here."""
        if self.server is None:
            with opened(self.path) as store:
                yield store
        else:
            yield RemoteRuns(remote(self.server, self.user, self.insecure))


def with_place(command: Command) -> Command:
    """`--store` and `--server`, as one argument `place`."""

    @functools.wraps(command)
    def placed(*, path: Path, server: str | None, user: Path, insecure: bool, **rest: Any) -> Any:
        return command(place=Place(path, server, user, insecure), **rest)

    return with_store(with_server(placed))  # type: ignore[return-value]


@final
class RemoteRuns(RunReader):
    """A server's runs."""

    def __init__(self, place: Remote) -> None:
        self._place = place
        self.waits_for: dict[str, str] = {}
        """What runs wait for, as of the last list."""

    def runs(self) -> list[RunInfo]:
        found = self._place.get("/v1/runs")["runs"]
        self.waits_for = {run["id"]: run["waits_for"] for run in found if run.get("waits_for")}
        return [RunInfo(run["id"], run["name"], run["created"], run["status"], run["plan"]) for run in found]

    def log(self, run: str) -> list[Event]:
        found = list(self._place.lines(f"/v1/runs/{run}/events"))
        for number, event in enumerate(found, 1):
            check_event(run, number, event)
        return found

    def checkpoints(self, run: str) -> list[int]:
        return self._place.get(f"/v1/runs/{run}/checkpoints")["rounds"]

    def checkpoint(self, run: str, round: int) -> bytes:
        return self._place.data(f"/v1/runs/{run}/checkpoints/{round}")[0]

    def is_claimed(self, run: str) -> bool:
        return True  # of its own runs, a server knows
