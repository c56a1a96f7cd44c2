"""One SQLite file: opened once, write-ahead logged, synced at every commit, with a format number."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from umbel.errors import StoreError, StoreFull

PATIENCE_S = 30.0
NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE")
_ABOUT = "CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT);"


@final
class SQLiteFile:
    """The file `path`, which is made if it is not there, for this user only.

    Args:
        tables: the statements that make its tables.
        format: the number of this layout; a file of another is refused.
        what: what it is, for errors: "the store".
        mend: what to do when the disk is full, as a sentence without its full stop.

    Raises:
        StoreError: the file is not one of this format, or its folder is not there.
    """

    def __init__(self, path: Path, tables: str, *, format: int, what: str, mend: str) -> None:
        self.path, self._what, self._mend = path, what, mend
        try:
            # SQLite gives the files that it puts beside this one the same mode. A file that is there must not even be
            # opened: to close it again would end the locks of this process's other connections to it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreError(f"cannot use {what} {path}: {error.strerror}") from error
        with self.errors():
            self.db = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S, check_same_thread=False)
            self._log_ahead()
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.executescript(_ABOUT + tables)
            row = self.db.execute("SELECT value FROM about WHERE key='format'").fetchone()
            if row is None:
                self.db.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (str(format),))
        if row is not None and int(row[0]) != format:
            raise StoreError(f"{path} has {what} format {row[0]}, this version reads {format}; update Umbel")

    def _log_ahead(self) -> None:
        """Of two who make the file at once one is told that it is locked: SQLite does not wait for its lock here."""
        ends_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > ends_s:
                    raise
            time.sleep(0.005)

    @contextmanager
    def errors(self) -> Generator[None]:
        """What SQLite raises, as errors of ours."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") in NO_ROOM:
                raise StoreFull(
                    f"no room left to write {self.path}; what was kept before is safe. {self._mend}"
                ) from error
            raise StoreError(f"cannot use {self._what} {self.path}: {error}") from error

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """All of it, or nothing."""
        with self.errors():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.errors():
            return self.db.execute(query, values).fetchall()

    def close(self) -> None:
        self.db.close()
