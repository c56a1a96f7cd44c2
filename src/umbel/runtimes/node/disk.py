"""`DiskKeeper`: what a node must not lose, in one SQLite file at the data owner's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, final

from umbel.errors import StoreError
from umbel.runtimes.mail import Basis
from umbel.stores.file import SQLiteFile
from umbel.wire.protobuf import Bytes

FORMAT = 1
KEPT_STATES = 3
# What SQLite takes as one value ends at a billion bytes; the rest of a longer one lies beside it.
PART_BYTES = 64 * 2**20
_TABLES = """
CREATE TABLE IF NOT EXISTS states
    (run TEXT, round INTEGER, attempt INTEGER, body BLOB, PRIMARY KEY (run, round, attempt));
CREATE TABLE IF NOT EXISTS answers
    (run TEXT, round INTEGER, attempt INTEGER, about TEXT, body BLOB, PRIMARY KEY (run, round, attempt));
CREATE TABLE IF NOT EXISTS days (day TEXT PRIMARY KEY, rounds INTEGER);
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

    Raises:
        StoreError: the file is not one of this format, or its folder is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StoreError(f"the node's file {self.path} cannot be used: {error.strerror}") from error
        self._file = SQLiteFile(self.path, _TABLES, format=FORMAT, what="the node's file")
        with self._file.errors():
            # An answer that is settled leaves nothing behind in the file.
            self._file.db.execute("PRAGMA secure_delete=ON")

    def _do(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """All statements in one transaction."""
        with self._file.transaction() as db:
            for text, values in statements:
                db.execute(text, values)

    def _one(self, query: str, *values: Any) -> Any:
        rows = self._file.rows(query, *values)
        return rows[0][0] if rows else None

    def done_today(self) -> int:
        """How many rounds were worked on today."""
        return self._one("SELECT rounds FROM days WHERE day = date('now', 'localtime')") or 0

    def state(self, run: str, basis: Basis) -> bytes | None:
        if basis is None:
            return None
        first = self._one("SELECT body FROM states WHERE run=? AND round=? AND attempt=?", run, *basis)
        return self._whole("state", (run, *basis), first)

    def keep(self, run: str, round: int, attempt: int, state: bytes | None, answer: Bytes, about: str) -> None:
        place = (run, round, attempt)
        statements: list[tuple[str, tuple[Any, ...]]] = [
            (_COUNT, ()),
            ("DELETE FROM answers WHERE run=?", (run,)),
            ("INSERT INTO answers VALUES (?,?,?,?,?)", (*place, about, answer[:PART_BYTES])),
            *_rest("answer", place, answer),
        ]
        if state is not None:
            statements += [
                ("DELETE FROM states WHERE run=? AND round=? AND attempt=?", place),
                ("INSERT INTO states VALUES (?,?,?,?)", (*place, state[:PART_BYTES])),
                *_rest("state", place, state),
            ]
        self._do(*statements)

    def answer(self, run: str, round: int, attempt: int, about: str) -> bytes | None:
        query = "SELECT body FROM answers WHERE run=? AND round=? AND attempt=? AND about=?"
        return self._whole("answer", (run, round, attempt), self._one(query, run, round, attempt, about))

    def _whole(self, kind: str, place: tuple[str, int, int], first: bytes | None) -> bytes | None:
        if first is None or len(first) < PART_BYTES:
            return first
        query = "SELECT body FROM rest WHERE kind=? AND run=? AND round=? AND attempt=? ORDER BY part"
        return b"".join([first, *(body for (body,) in self._file.rows(query, kind, *place))])

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
        self._do(("DELETE FROM answers WHERE run=?", (run,)), ("DELETE FROM states WHERE run=?", (run,)))

    def close(self) -> None:
        self._file.close()


def _rest(kind: str, place: tuple[str, int, int], body: Bytes) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements that keep what is beyond the first part."""
    statement = "INSERT INTO rest VALUES (?,?,?,?,?,?)"
    starts = range(PART_BYTES, len(body), PART_BYTES)
    return [(statement, (kind, *place, n, body[at : at + PART_BYTES])) for n, at in enumerate(starts)]
