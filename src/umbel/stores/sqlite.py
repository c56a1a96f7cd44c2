"""The store of a run that must survive: one SQLite file, write-ahead logged, synced at every commit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from umbel.errors import StoreError
from umbel.stores import lock
from umbel.stores import states as rows
from umbel.stores.abstract import Event, Part, RunInfo, Store
from umbel.stores.file import SQLiteFile
from umbel.stores.legible import read_last, read_log, read_plan
from umbel.stores.link import canonical, digest, linked, opening

FORMAT = 1
MEND = "Free some space and resume the run"
# What a server claims, beside its runs; no run has this id.
SERVER = "the server"
PART_BYTES = 64 * 2**20
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, name TEXT, created REAL, status TEXT, plan TEXT);
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, run TEXT, round INTEGER, body TEXT);
CREATE INDEX IF NOT EXISTS events_of_run ON events (run, number);
CREATE TABLE IF NOT EXISTS checkpoints
    (run TEXT, round INTEGER, part INTEGER, body BLOB, PRIMARY KEY (run, round, part));
"""


@final
class SQLiteStore(Store):
    """Keeps everything in the file `path`, which is made if it is not there.

    Several processes may read while one writes.

    Raises:
        StoreError: the file is not a store of this format, or its folder is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = SQLiteFile(self.path, _TABLES + rows.TABLES, format=FORMAT, what="the store", mend=MEND)
        self._place, self._claims = self.path.resolve(), set[str]()
        self.folder = self._place.parent
        self._rows, self._transaction = self._file.rows, self._file.transaction

    def create(self, run: RunInfo) -> None:
        if self._rows("SELECT 1 FROM runs WHERE id=?", run.id):
            raise StoreError(f"there is a run {run.id} already; choose another id or resume it")
        with self._transaction() as db:
            row = (run.id, run.name, run.created_s, run.status, json.dumps(run.plan))
            db.execute("INSERT INTO runs VALUES (?,?,?,?,?)", row)

    def runs(self) -> list[RunInfo]:
        rows = self._rows("SELECT id, name, created, status, plan FROM runs ORDER BY created, rowid")
        return [RunInfo(*row[:4], plan=read_plan(row[0], row[4])) for row in rows]

    def _known(self, run: str) -> str:
        if not self._rows("SELECT 1 FROM runs WHERE id=?", run):
            raise StoreError(f"there is no run {run} in {self.path}")
        return run

    def set_status(self, run: str, status: str) -> None:
        with self._transaction() as db:
            db.execute("UPDATE runs SET status=? WHERE id=?", (status, self._known(run)))

    def set_plan(self, run: str, plan: Mapping[str, Any], event: Event | None = None) -> None:
        with self._transaction() as db:
            if event is not None:
                self._insert_event(db, run, event)
            db.execute("UPDATE runs SET plan=? WHERE id=?", (json.dumps(plan), self._known(run)))

    def claim(self, run: str) -> None:
        lock.claim(self._place, run)
        self._claims.add(run)

    def release(self, run: str) -> None:
        if run in self._claims:
            self._claims.remove(run)
            lock.release(self._place, run)

    def beside(self) -> SQLiteStore:
        return SQLiteStore(self.path)

    def lead(self) -> bool:
        if SERVER not in self._claims:
            try:
                self.claim(SERVER)
            except StoreError:
                return False
        return True

    def is_claimed(self, run: str) -> bool:
        return lock.is_claimed(self._place, run)

    def append(self, run: str, event: Event) -> None:
        with self._transaction() as db:
            self._insert_event(db, run, event)

    def _insert_event(self, db: sqlite3.Connection, run: str, event: Event) -> None:
        last = db.execute("SELECT body FROM events WHERE run=? ORDER BY number DESC LIMIT 1", (run,)).fetchone()
        added = linked(event, opening(run) if last is None else digest(read_last(run, last[0])))
        values = (run, event.get("round", 0), canonical(added).decode())
        db.execute("INSERT INTO events (run, round, body) VALUES (?,?,?)", values)

    def log(self, run: str) -> list[Event]:
        rows = self._rows("SELECT body FROM events WHERE run=? ORDER BY number", self._known(run))
        return read_log(run, (row[0] for row in rows))

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
        with self._transaction() as db:
            self._insert_event(db, run, event)
            there = {row[0] for row in db.execute("SELECT DISTINCT round FROM checkpoints WHERE run=?", (run,))}
            since = max((number for number in there if number < round), default=rows.NEVER)
            if since < round - 1:
                db.executemany(rows.SUPERSEDE, [(run, client, since, round) for client in states])
            db.executemany(rows.PUT, [(run, client, round, state) for client, state in states.items()])
            if checkpoint is None:
                return
            db.execute("DELETE FROM checkpoints WHERE run=? AND round=?", (run, round))
            for number, part in enumerate(_pieces(checkpoint)):
                db.execute("INSERT INTO checkpoints VALUES (?,?,?,?)", (run, round, number, part))
            kept = {round, *(number for number in there if number in keep)}
            db.executemany("DELETE FROM checkpoints WHERE run=? AND round=?", [(run, n) for n in there - kept])
            db.executemany(rows.PRUNE, [(run, *gap) for gap in rows.gaps(there, kept)])

    def checkpoints(self, run: str) -> list[int]:
        rows = self._rows("SELECT DISTINCT round FROM checkpoints WHERE run=? ORDER BY round", self._known(run))
        return [row[0] for row in rows]

    def checkpoint(self, run: str, round: int) -> bytes:
        rows = self._rows("SELECT body FROM checkpoints WHERE run=? AND round=? ORDER BY part", run, round)
        if not rows:
            raise StoreError(f"run {run} has no checkpoint of round {round}")
        return b"".join(row[0] for row in rows)

    def state(self, run: str, client: str, round: int) -> bytes | None:
        found = self._rows(rows.STATE, run, client, round)
        return found[0][0] if found else None

    def forget(self, run: str, round: int) -> None:
        with self._transaction() as db:
            for table in ("checkpoints", "states"):
                db.execute(f"DELETE FROM {table} WHERE run=? AND round>?", (self._known(run), round))

    def scrub(self) -> None:
        # What was deleted stays in free pages and in the write-ahead log until both are written anew.
        self._rows("VACUUM")
        ((busy, *_),) = self._rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise StoreError(
                f"somebody reads {self.path}, so that bytes of what was removed are still in it; end that, and give "
                "the same command again"
            )

    def close(self) -> None:
        for run in list(self._claims):
            self.release(run)
        self._file.close()


def _pieces(parts: Sequence[Part]) -> Generator[memoryview]:
    """The parts, none larger than a row should be."""
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, len(view), PART_BYTES):
            yield view[start : start + PART_BYTES]
