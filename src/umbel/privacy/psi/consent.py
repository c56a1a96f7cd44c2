"""`Consent`: with whom an owner intersects, how much and how often; `Asked`: what was done, so that limits hold."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

from umbel.errors import StoreError
from umbel.message import require

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks and goes without
    fcntl = None

DAY_S = 86_400.0
MOST_IDS = 100_000


@final
@dataclass(frozen=True, kw_only=True)
class Consent:
    """An owner's word; as it stands nobody is allowed anything.

    Args:
        allow: names of the peers with whom ids may be intersected, by either's request.
        max_ids: the most ids in one request, dummies included, at least 1.
        ids_per_day: the most ids that one peer may ask for in 24 hours.
        requests_per_day: the most requests of one peer in 24 hours.
    """

    allow: Sequence[str] = ()
    max_ids: int = MOST_IDS
    ids_per_day: int = MOST_IDS
    requests_per_day: int = 3

    def __post_init__(self) -> None:
        for name in ("max_ids", "ids_per_day", "requests_per_day"):
            value = getattr(self, name)
            fine = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(fine, f"{name} must be a whole number of at least 1, got {value!r}")
        listed = not isinstance(self.allow, str)
        require(listed, f"allow is a list of names, got {self.allow!r}; write [{self.allow!r}]")
        named = all(isinstance(name, str) for name in self.allow)  # pyright: ignore[reportUnnecessaryIsInstance]
        require(named, f"allow is a list of names, got {self.allow!r}; names are texts")
        object.__setattr__(self, "allow", tuple(self.allow))

    def why_not_peer(self, peer: str) -> str | None:
        """Why nothing is intersected with `peer`."""
        if peer in self.allow:
            return None
        return f"the owner has not agreed to intersect ids with {peer!r} (intersection.allow)"

    def why_not(self, peer: str, ids: int, before: Sequence[tuple[float, str, int]], now_s: float) -> str | None:
        """Why a request of `peer` is refused.

        Args:
            ids: how many ids are in it.
            before: (Unix time, peer, ids) of earlier requests.
        """
        mine = [count for at_s, who, count in before if who == peer and now_s - DAY_S < at_s]
        if (reason := self.why_not_peer(peer)) is not None:
            return reason
        if ids > self.max_ids:
            return f"the request has {ids} ids, the owner takes {self.max_ids} (intersection.max_ids)"
        if len(mine) >= self.requests_per_day:
            return f"{peer!r} has asked {len(mine)} times in a day, which is the most (intersection.requests_per_day)"
        if sum(mine) + ids > self.ids_per_day:
            return (
                f"{peer!r} has asked for {sum(mine)} ids in a day, with these it would be {sum(mine) + ids} of "
                f"{self.ids_per_day} (intersection.ids_per_day)"
            )
        return None


@final
class Asked:
    """What peers have asked for: a line of JSON each in `file`, on the disk before anything is answered.

    Args:
        file: None remembers for as long as this object lives.

    Raises:
        StoreError: it cannot be read.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file, self.before = file, list[tuple[float, str, int]]()
        self._gate = threading.Lock()
        self._read()

    def _read(self) -> None:
        file = self._file
        if file is None:
            return
        try:
            lines = file.read_text("utf-8").splitlines() if file.exists() else []
            self.before = [_entry(json.loads(line)) for line in lines if line]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{file} cannot be read ({error}), so that nobody knows what was asked today; restore it from a backup"
            ) from error

    @contextmanager
    def held(self) -> Generator[None]:
        """Nobody else looks at the limits, or uses them up, meanwhile: no other thread, and no process with this file.

        Raises:
            StoreError: the file cannot be read or written.
        """
        with self._gate:
            if self._file is None:
                yield
                return
            try:
                descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError as error:
                raise self._unwritten(error) from error
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._read()
                yield
            finally:
                os.close(descriptor)

    def _unwritten(self, error: OSError) -> StoreError:
        return StoreError(f"{self._file} cannot be written: {error.strerror}; nothing is answered")

    def note(self, at_s: float, peer: str, ids: int, mine: int) -> None:
        """Remember a request, before it is answered.

        Args:
            ids: how many it has.
            mine: among how many of the owner's they are looked for.

        Raises:
            StoreError: it cannot be written.
        """
        if self._file is not None:
            line = json.dumps({"at_s": at_s, "peer": peer, "ids": ids, "mine": mine}) + "\n"
            try:
                descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                with os.fdopen(descriptor, "a", encoding="utf-8") as out:
                    out.write(line)
                    out.flush()
                    os.fsync(out.fileno())
            except OSError as error:
                raise self._unwritten(error) from error
        self.before.append((at_s, peer, ids))


def _entry(found: Any) -> tuple[float, str, int]:
    entry = cast("dict[str, Any]", found)
    return float(entry["at_s"]), str(entry["peer"]), int(entry["ids"])
