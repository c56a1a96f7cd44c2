"""`States`: clients' states by round, those used last in memory, the others in a file without a name."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections import OrderedDict
from collections.abc import Collection, Generator, Mapping
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
SUPERSEDE = "DELETE FROM states WHERE run=? AND client=? AND round>? AND round<?"
# The plus keeps SQLite from looking through all states after ?2 instead of those of the clients named.
PRUNE = """
DELETE FROM states WHERE run=?1 AND +round>?2
    AND client IN (SELECT client FROM states WHERE run=?1 AND round>?3 AND round<=?4)
    AND round < (SELECT max(round) FROM states AS newer
                 WHERE newer.run=?1 AND newer.client=states.client AND newer.round<=?4)
"""
"""Removes what no checkpoint needs where those from round ?3 on between ?2 and ?4 are gone: of a client's states
between two checkpoints the newest is enough, and only clients with a state after ?3 have one too many."""
NEVER = -1
"""Before all rounds."""
ENTRY_BYTES = 500
"""What a client costs in memory beside its state's bytes. Measured, rounded up."""


def gaps(before: Collection[int], kept: Collection[int]) -> list[tuple[int, int, int]]:
    """Where checkpoints went: (the one that stays before them, the first that is gone, the one that stays after them).

    Example:
        >>> gaps({1, 4, 5, 6}, {1, 5, 6})
        [(1, 4, 5)]
    """
    found: list[tuple[int, int, int]] = []
    last = NEVER
    for stays in sorted(kept):
        gone = [number for number in before if last < number < stays and number not in kept]
        if gone:
            found.append((last, min(gone), stays))
        last = stays
    return found


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
        """Which clients' states of a round are in memory, for rounds after the oldest kept checkpoint."""
        self._file: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    def put(self, run: str, round: int, states: Mapping[str, bytes], *, since: int | None = None) -> None:
        """Keep states of a round.

        Args:
            since: the newest checkpoint; older states of these clients after it are of no use any more.
        """
        with self._lock:
            if since is not None and since < round - 1:
                self._supersede([(run, client, since, round) for client in states])
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

    def _supersede(self, spans: list[tuple[str, str, int, int]]) -> None:
        """Forget states of clients between two rounds."""
        for run, client, after, before in spans:
            versions = self._recent.get((run, client), {})
            self._drop(run, client, [number for number in versions if after < number < before])
        if self._file is not None:
            with self._transaction(self._file) as db:
                db.executemany(SUPERSEDE, spans)

    def prune(self, run: str, before: Collection[int], kept: Collection[int]) -> None:
        """Forget what no checkpoint needs, now that of those `before` some are `kept`."""
        with self._lock:
            written = self._written.get(run, {})
            for last, gone, stays in gaps(before, kept):
                clients = {client: None for n in sorted(written) if gone < n <= stays for client in written[n]}
                newest = {client: max(n for n in self._recent[run, client] if n <= stays) for client in clients}
                self._supersede([(run, client, last, number) for client, number in newest.items()])
                if self._file is not None:
                    with self._transaction(self._file) as db:
                        db.execute(PRUNE, (run, last, gone, stays))
            for number in [n for n in written if n <= min(kept) or not written[n]]:
                del written[number]

    def rewind(self, run: str, round: int) -> None:
        """Forget the states of rounds after `round`."""
        with self._lock:
            for client in [client for one, client in self._recent if one == run]:
                self._drop(run, client, [n for n in self._recent[run, client] if n > round])
            if self._file is not None:
                with self._transaction(self._file) as db:
                    db.execute("DELETE FROM states WHERE run=? AND round>?", (run, round))

    def _drop(self, run: str, client: str, rounds: list[int]) -> None:
        if not rounds:
            return
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
