"""`DiskKeeper`: what a node must not lose, in one SQLite file at the data owner's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from umbel.errors import StoreError, StoreFull
from umbel.runtimes.mail import Basis

FORMAT = 1
KEPT_STATES = 3
_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS states
    (run TEXT, round INTEGER, attempt INTEGER, body BLOB, PRIMARY KEY (run, round, attempt));
CREATE TABLE IF NOT EXISTS answers
    (run TEXT, round INTEGER, attempt INTEGER, about TEXT, body BLOB, PRIMARY KEY (run, round, attempt));
"""


@final
class DiskKeeper:
    """Keeps a client's states and its unsettled answer over restarts. Only this user may read the file.

    Raises:
        StoreError: the file is not one of this format, or its folder is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._errors():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=30.0, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")  # an answer that is settled leaves nothing behind in the file
            self._db.executescript(_TABLES)
            row = self._db.execute("SELECT value FROM about WHERE key='format'").fetchone()
            if row is None:
                self._db.execute("INSERT INTO about VALUES ('format', ?)", (str(FORMAT),))
        if row is not None and int(row[0]) != FORMAT:
            raise StoreError(f"{path} has node format {row[0]}, this version reads {FORMAT}; update Umbel")

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", "")
            kind = StoreFull if code in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC") else StoreError
            raise kind(f"the node cannot keep its client's state in {self.path}: {error}") from error
        except OSError as error:
            raise StoreError(f"the node's file {self.path} cannot be used: {error.strerror}") from error

    def _do(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """All statements in one transaction."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for text, values in statements:
                    self._db.execute(text, values)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _one(self, query: str, *values: Any) -> Any:
        with self._errors():
            row = self._db.execute(query, values).fetchone()
        return None if row is None else row[0]

    def state(self, run: str, basis: Basis) -> bytes | None:
        if basis is None:
            return None
        return self._one("SELECT body FROM states WHERE run=? AND round=? AND attempt=?", run, *basis)

    def keep(self, run: str, round: int, attempt: int, state: bytes | None, answer: bytes, about: str) -> None:
        statements: list[tuple[str, tuple[Any, ...]]] = [
            ("DELETE FROM answers WHERE run=?", (run,)),
            ("INSERT INTO answers VALUES (?,?,?,?,?)", (run, round, attempt, about, answer)),
        ]
        if state is not None:
            statements.append(("INSERT OR REPLACE INTO states VALUES (?,?,?,?)", (run, round, attempt, state)))
        self._do(*statements)

    def answer(self, run: str, round: int, attempt: int, about: str) -> bytes | None:
        query = "SELECT body FROM answers WHERE run=? AND round=? AND attempt=? AND about=?"
        return self._one(query, run, round, attempt, about)

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
        self._db.close()
