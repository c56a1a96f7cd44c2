"""`States`: clients' states by round, those used last in memory, the others in a file without a name."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import final

from umbel.errors import StoreError, StoreFull
from umbel.stores.file import NO_ROOM

TABLES = """
CREATE TABLE IF NOT EXISTS states (run TEXT, client TEXT, round INTEGER, body BLOB, PRIMARY KEY (run, client, round));
CREATE INDEX IF NOT EXISTS states_of_round ON states (run, round);
"""
STATE = "SELECT body FROM states WHERE run=? AND client=? AND round<=? ORDER BY round DESC LIMIT 1"
PUT = "INSERT OR REPLACE INTO states VALUES (?,?,?,?)"
PRUNE = """
DELETE FROM states WHERE run=?1
    AND client IN (SELECT client FROM states WHERE run=?1 AND round>?2 AND round<=?3)
    AND round < (SELECT max(round) FROM states AS newer
                 WHERE newer.run=?1 AND newer.client=states.client AND newer.round<=?3)
"""
"""Removes what no checkpoint from round ?3 on needs, if that was done for round ?2 before: only clients with a state
of a round in between have one too many."""
ENTRY_BYTES = 500
"""What a client costs in memory beside its state's bytes. Measured, rounded up."""


@final
class States:
    """States by (run, client, round), of which at most `most_bytes` are kept in memory.

    Those not used for longest go to a temporary database of SQLite's, a file that has no name and is gone with this
    process, however it ends.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._recent: OrderedDict[tuple[str, str], dict[int, bytes]] = OrderedDict()
        self._written: dict[str, dict[int, dict[str, None]]] = {}
        """Which clients' states of a round are in memory, for rounds that are not pruned yet."""
        self._pruned: dict[str, int] = {}
        self._file: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    def put(self, run: str, round: int, states: Mapping[str, bytes]) -> None:
        """Keep states of a round."""
        with self._lock:
            for client, state in states.items():
                versions = self._recent.setdefault((run, client), {})
                self._recent.move_to_end((run, client))
                self._weigh(versions, -1)
                versions[round] = state
                self._weigh(versions, 1)
                self._written.setdefault(run, {}).setdefault(round, {})[client] = None
            self._spill()

    @property
    def are_none(self) -> bool:
        """Whether nothing was ever kept, so that nobody need be looked for."""
        return not self._recent and self._file is None

    def get(self, run: str, client: str, round: int) -> bytes | None:
        """The newest state of a client up to a round."""
        with self._lock:
            versions = self._recent.get((run, client), {})
            newest = max((n for n in versions if n <= round), default=None)
            if newest is not None:
                self._recent.move_to_end((run, client))
                return versions[newest]
            # What went to the file is older than what is in memory.
            if self._file is None:
                return None
            with self._errors():
                row = self._file.execute(STATE, (run, client, round)).fetchone()
            return None if row is None else row[0]

    def prune(self, run: str, oldest: int) -> None:
        """Forget what no checkpoint from round `oldest` on needs."""
        with self._lock:
            before, self._pruned[run] = self._pruned.get(run, -1), oldest
            if oldest <= before:
                return
            written, spilled = self._written.get(run, {}), list[tuple[str, str, int]]()
            for number in sorted(n for n in written if n <= oldest):
                for client in written.pop(number):
                    newest = max(n for n in self._recent[run, client] if n <= oldest)
                    self._drop(run, client, [n for n in self._recent[run, client] if n < newest])
                    spilled.append((run, client, newest))
            if self._file is not None:
                with self._transaction(self._file) as db:
                    db.executemany("DELETE FROM states WHERE run=? AND client=? AND round<?", spilled)
                    db.execute(PRUNE, (run, before, oldest))

    def rewind(self, run: str, round: int) -> None:
        """Forget the states of rounds after `round`."""
        with self._lock:
            for client in [client for one, client in self._recent if one == run]:
                self._drop(run, client, [n for n in self._recent[run, client] if n > round])
            self._pruned[run] = min(self._pruned.get(run, -1), round)
            if self._file is not None:
                with self._transaction(self._file) as db:
                    db.execute("DELETE FROM states WHERE run=? AND round>?", (run, round))

    def _drop(self, run: str, client: str, rounds: list[int]) -> None:
        versions = self._recent[run, client]
        self._weigh(versions, -1)
        for number in rounds:
            del versions[number]
            self._written.get(run, {}).get(number, {}).pop(client, None)
        self._weigh(versions, 1)
        if not versions:
            del self._recent[run, client]

    def _weigh(self, versions: Mapping[int, bytes], sign: int) -> None:
        if versions:
            self._bytes += sign * (ENTRY_BYTES + sum(map(len, versions.values())))

    def _spill(self) -> None:
        """Move to the file what is too much for memory."""
        rows = list[tuple[str, str, int, bytes]]()
        while self._bytes > self._most_bytes:
            (run, client), versions = self._recent.popitem(last=False)
            self._weigh(versions, -1)
            rows += [(run, client, number, state) for number, state in versions.items()]
            for number in versions:
                self._written.get(run, {}).get(number, {}).pop(client, None)
        if rows:
            with self._transaction(self._opened()) as db:
                db.executemany(PUT, rows)

    def _opened(self) -> sqlite3.Connection:
        if self._file is None:
            with self._errors():
                # An empty name is a file that SQLite makes in the system's folder for temporary files and unlinks.
                self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
                weakref.finalize(self, self._file.close)
                self._file.executescript(TABLES)
        return self._file

    @contextmanager
    def _transaction(self, db: sqlite3.Connection) -> Generator[sqlite3.Connection]:
        with self._errors():
            db.execute("BEGIN")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") in NO_ROOM:
                raise StoreFull(
                    f"no room left for states of clients beyond {self._most_bytes} bytes in the folder for temporary "
                    "files; set TMPDIR to one with room, or raise state_bytes"
                ) from error
            raise StoreError(f"cannot keep states of clients in a temporary file: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
