"""`DiskKeeper`: what a node must not lose, in one SQLite file at the data owner's."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

from umbel.runtimes.mail import Basis
from umbel.runtimes.node.keep import KeptTurn
from umbel.runtimes.node.opened_sums import KEPT_SUM_BYTES, KEPT_SUMS
from umbel.stores.file import SQLiteFile
from umbel.wire.protobuf import Bytes

MEND = "Free some space: this turn fails, the next ones need not"
FORMAT = 1
KEPT_STATES = 3
DAY_S = 86_400.0
# A value of SQLite ends at a billion bytes; what is longer than this lies beside its row, in pieces.
PART_BYTES = 64 * 2**20
_TABLES = """
CREATE TABLE IF NOT EXISTS states
    (run TEXT, round INTEGER, attempt INTEGER, body BLOB, PRIMARY KEY (run, round, attempt));
CREATE TABLE IF NOT EXISTS answers
    (run TEXT, round INTEGER, attempt INTEGER, about TEXT, body BLOB, PRIMARY KEY (run, round, attempt));
CREATE TABLE IF NOT EXISTS days (day TEXT PRIMARY KEY, rounds INTEGER);
CREATE TABLE IF NOT EXISTS promises (key TEXT PRIMARY KEY, epsilon REAL);
CREATE TABLE IF NOT EXISTS releases (run TEXT PRIMARY KEY, count INTEGER);
CREATE TABLE IF NOT EXISTS sums (at INTEGER PRIMARY KEY, about BLOB, members TEXT, UNIQUE (about, members));
CREATE TABLE IF NOT EXISTS used (run TEXT PRIMARY KEY, at_s REAL);
CREATE TABLE IF NOT EXISTS rest (kind TEXT, run TEXT, round INTEGER, attempt INTEGER, part INTEGER, body BLOB);
CREATE INDEX IF NOT EXISTS rests ON rest (kind, run, round, attempt, part);
CREATE TRIGGER IF NOT EXISTS state_rest AFTER DELETE ON states BEGIN
    DELETE FROM rest WHERE kind='state' AND run=old.run AND round=old.round AND attempt=old.attempt; END;
CREATE TRIGGER IF NOT EXISTS answer_rest AFTER DELETE ON answers BEGIN
    DELETE FROM rest WHERE kind='answer' AND run=old.run AND round=old.round AND attempt=old.attempt; END;
"""
_COUNT = "INSERT INTO days VALUES (date('now', 'localtime'), 1) ON CONFLICT (day) DO UPDATE SET rounds = rounds + 1"


@final
class DiskKeeper:
    """Keeps a client's states and its unsettled answer over restarts. Only this user may read the file.

    Args:
        state_days: a run that was not worked on for so many days is forgotten, when the file is opened and after each
            turn; None keeps it until it is over.
        clock: Unix time.

    Raises:
        StoreError: the file is not one of this format, or its folder is not there.
    """

    def __init__(
        self, path: str | Path, *, state_days: float | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = Path(path)
        self._state_days, self._clock = state_days, clock
        # Large answers are kept off the event loop, which may settle others meanwhile.
        self._writing = threading.Lock()
        self._file = SQLiteFile(self.path, _TABLES, format=FORMAT, what="the node's file", mend=MEND)
        with self._file.errors():
            # An answer that is settled leaves nothing behind in the file.
            self._file.db.execute("PRAGMA secure_delete=ON")
        # Of what was kept before days were counted, they are counted from now on.
        known = "INSERT OR IGNORE INTO used SELECT run, ?1 FROM (SELECT run FROM states UNION SELECT run FROM answers)"
        self._do((known, (clock(),)), *self._expiry())

    def _do(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """All statements in one transaction."""
        with self._writing, self._file.transaction() as db:
            for text, values in statements:
                db.execute(text, values)

    def _expiry(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What forgets the runs that nobody worked on for too long."""
        if self._state_days is None:
            return []
        before_s = self._clock() - self._state_days * DAY_S
        old = "(SELECT run FROM used WHERE at_s < ?)"
        return [
            (f"DELETE FROM answers WHERE run IN {old}", (before_s,)),
            (f"DELETE FROM states WHERE run IN {old}", (before_s,)),
            ("DELETE FROM used WHERE at_s < ?", (before_s,)),
        ]

    def _one(self, query: str, *values: Any) -> Any:
        rows = self._file.rows(query, *values)
        return rows[0][0] if rows else None

    def done_today(self) -> int:
        """How many rounds were worked on today."""
        return self._one("SELECT rounds FROM days WHERE day = date('now', 'localtime')") or 0

    def promised(self) -> dict[str, float]:
        """Run and plan → the ε of differential privacy that was promised; runs that are over included."""
        return dict(self._file.rows("SELECT key, epsilon FROM promises"))

    def promise(self, key: str, epsilon: float) -> None:
        """Keep what a run promises, before anything is done for it."""
        self._do(("INSERT OR REPLACE INTO promises VALUES (?,?)", (key, epsilon)))

    def released(self, run: str) -> int:
        """How many answers of a run were worked out with this node's own noise."""
        return self._one("SELECT count FROM releases WHERE run = ?", run) or 0

    def release(self, run: str) -> None:
        """Keep that one more will be, before anything is done for it."""
        self._do(("INSERT INTO releases VALUES (?, 1) ON CONFLICT (run) DO UPDATE SET count = count + 1", (run,)))

    def sums(self, about: bytes) -> list[frozenset[str]]:
        """Who was in the secure sums over what has this digest, that this node helped to open; of all its runs."""
        rows = self._file.rows("SELECT members FROM sums WHERE about = ?", about)
        return [frozenset(json.loads(members)) for (members,) in rows]

    def add_sum(self, about: bytes, members: frozenset[str]) -> None:
        """Keep one more, before what opens it leaves; of too many the oldest are forgotten."""
        self._do(
            ("INSERT OR REPLACE INTO sums (about, members) VALUES (?,?)", (about, json.dumps(sorted(members)))),
            ("DELETE FROM sums WHERE at <= (SELECT MAX(at) FROM sums) - ?", (KEPT_SUMS,)),
        )
        if self._one("SELECT TOTAL(LENGTH(members)) FROM sums") > KEPT_SUM_BYTES:
            newer = "SELECT at, SUM(LENGTH(members)) OVER (ORDER BY at DESC) AS bytes FROM sums"
            old = f"SELECT at FROM ({newer}) WHERE bytes > ? AND at < (SELECT MAX(at) FROM sums)"
            self._do((f"DELETE FROM sums WHERE at IN ({old})", (KEPT_SUM_BYTES,)))

    def state(self, run: str, basis: Basis) -> bytes | None:
        if basis is None:
            return None
        rows = self._file.rows("SELECT body FROM states WHERE run=? AND round=? AND attempt=?", run, *basis)
        return self._whole("state", (run, *basis), rows)

    def keep(self, done: KeptTurn) -> None:
        place = (done.run, done.round, done.attempt)
        body, rest = _split("answer", place, done.answer)
        statements: list[tuple[str, tuple[Any, ...]]] = [
            (_COUNT, ()),
            ("INSERT OR REPLACE INTO used VALUES (?,?)", (done.run, self._clock())),
            *self._expiry(),
            ("DELETE FROM answers WHERE run=?", (done.run,)),
            ("INSERT INTO answers VALUES (?,?,?,?,?)", (*place, done.about, body)),
            *rest,
        ]
        if done.state is not None:
            body, rest = _split("state", place, [done.state])
            statements += [
                ("DELETE FROM states WHERE run=? AND round=? AND attempt=?", place),
                ("INSERT INTO states VALUES (?,?,?,?)", (*place, body)),
                *rest,
            ]
        self._do(*statements)

    def answer(self, run: str, round: int, attempt: int, about: str) -> Sequence[Bytes] | None:
        query = "SELECT body FROM answers WHERE run=? AND round=? AND attempt=? AND about=?"
        found = self._whole("answer", (run, round, attempt), self._file.rows(query, run, round, attempt, about))
        return None if found is None else [found]

    def _whole(self, kind: str, place: tuple[str, int, int], rows: list[tuple[Any, ...]]) -> bytes | None:
        if not rows or rows[0][0]:
            return rows[0][0] if rows else None
        query = "SELECT body FROM rest WHERE kind=? AND run=? AND round=? AND attempt=? ORDER BY part"
        return b"".join(body for (body,) in self._file.rows(query, kind, *place))

    def settle(self, run: str, round: int, attempt: int, *, included: bool) -> None:
        place = (run, round, attempt)
        statements: list[tuple[str, tuple[Any, ...]]] = [
            ("DELETE FROM answers WHERE run=? AND round=? AND attempt=?", place)
        ]
        if included:
            # The newest few stay: a server that is set back a checkpoint asks for an older one.
            older = (
                "DELETE FROM states WHERE run=?1 AND (round, attempt) < (?2, ?3) AND (round, attempt) NOT IN "
                "(SELECT round, attempt FROM states WHERE run=?1 AND (round, attempt) <= (?2, ?3) "
                f"ORDER BY round DESC, attempt DESC LIMIT {KEPT_STATES})"
            )
            statements.append((older, place))
        else:
            statements.append(("DELETE FROM states WHERE run=? AND round=? AND attempt=?", place))
        self._do(*statements)

    def forget(self, run: str) -> None:
        self._do(*((f"DELETE FROM {table} WHERE run=?", (run,)) for table in ("answers", "states", "used")))

    def close(self) -> None:
        self._file.close()


def _split(
    kind: str, place: tuple[str, int, int], parts: Sequence[Bytes]
) -> tuple[bytes, list[tuple[str, tuple[Any, ...]]]]:
    """What goes into one row; where that would be too large, nothing, and the statements that keep it elsewhere."""
    if sum(len(part) for part in parts) <= PART_BYTES:
        return b"".join(parts), []
    pieces = [memoryview(part)[at : at + PART_BYTES] for part in parts for at in range(0, len(part), PART_BYTES)]
    statement = "INSERT INTO rest VALUES (?,?,?,?,?,?)"
    return b"", [(statement, (kind, *place, number, piece)) for number, piece in enumerate(pieces)]
