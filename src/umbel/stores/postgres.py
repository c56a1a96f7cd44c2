"""The store that servers on several machines share: a PostgreSQL database (extra `postgres`)."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

import psycopg
from psycopg import errors

from umbel.errors import ConfigError, StoreError, StoreFull
from umbel.stores.abstract import Event, Part, RunInfo, Store
from umbel.stores.legible import read_last, read_log, read_plan
from umbel.stores.link import canonical, digest, linked, opening
from umbel.stores.states import NEVER, gaps

FORMAT = 1
PART_BYTES = 64 * 2**20
CONNECT_S = 5
PATIENCE_S = 300.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
# Half of every advisory lock's key: so others who use such locks in the same database are not in the way.
_OURS = 0x554D4245
_SERVER = "the server"
_KEEPALIVE = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 2, "tcp_keepalives_count": 3}
_TABLES = """
CREATE TABLE IF NOT EXISTS umbel_about (key TEXT PRIMARY KEY, value BIGINT);
CREATE TABLE IF NOT EXISTS umbel_runs
    (place BIGSERIAL, id TEXT PRIMARY KEY, name TEXT, created DOUBLE PRECISION, status TEXT, plan TEXT);
CREATE TABLE IF NOT EXISTS umbel_events
    (run TEXT, number BIGINT, token TEXT, round INTEGER, body TEXT, PRIMARY KEY (run, number));
CREATE TABLE IF NOT EXISTS umbel_checkpoints
    (run TEXT, round INTEGER, part INTEGER, body BYTEA, PRIMARY KEY (run, round, part));
CREATE TABLE IF NOT EXISTS umbel_states
    (run TEXT, client TEXT, round INTEGER, body BYTEA, PRIMARY KEY (run, client, round));
CREATE INDEX IF NOT EXISTS umbel_states_of_round ON umbel_states (run, round);
"""
_SUPERSEDE = "DELETE FROM umbel_states WHERE run=%s AND client=%s AND round>%s AND round<%s"
_PRUNE = """
DELETE FROM umbel_states AS old WHERE run=%s AND round>%s
    AND client IN (SELECT client FROM umbel_states WHERE run=%s AND round>%s AND round<=%s)
    AND round < (SELECT max(round) FROM umbel_states AS newer
                 WHERE newer.run=old.run AND newer.client=old.client AND newer.round<=%s)
"""
"""As `PRUNE` of `umbel.stores.states`."""
Result = TypeVar("Result")
Connection = psycopg.Connection[tuple[Any, ...]]


@final
@dataclass
class _Term:
    """Since when a server leads, shared by its stores; None is no server's store, which nobody keeps from writing."""

    number: int | None = None


@final
@dataclass
class _Held:
    """What ends with a connection and is taken again with the next."""

    claims: set[str] = field(default_factory=set[str])


@final
class PostgresStore(Store):
    """Keeps everything in a PostgreSQL database, in tables whose names begin with `umbel_`.

    A broken connection is made anew, and what was under way is done again: events have numbers and tokens, so that
    none is lost and none is there twice. A server's writes are refused once another server leads.

    Args:
        url: "postgresql://user@host/database", without a password: that stands in the file that PGPASSFILE or
            `passfile=` in the address names.
        patience_s: how long to try when the database does not answer.

    Raises:
        ConfigError: the address holds a password.
        StoreError: the database cannot be used, or has tables of another format.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S, _term: _Term | None = None) -> None:
        if ":" in url.partition("://")[2].partition("?")[0].rpartition("@")[0] or "password=" in url:
            raise ConfigError(
                "a password does not belong into a store's address, where others can read it; put it into the file "
                "that PGPASSFILE names, or add ?passfile=FILE to the address"
            )
        self._url, self._patience_s = url, patience_s
        self._term, self._held = _term or _Term(), _Held()
        self._lock = threading.RLock()
        self._db: Connection | None = None
        self._do(self._prepare, patience_s=0.0)

    def _prepare(self, db: Connection) -> None:
        # Of two who make the tables at once, one waits.
        db.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_OURS,))
        db.execute(_TABLES)
        db.execute("INSERT INTO umbel_about VALUES ('format', %s), ('term', 0) ON CONFLICT DO NOTHING", (FORMAT,))
        row = db.execute("SELECT value FROM umbel_about WHERE key='format'").fetchone()
        if row is None or row[0] != FORMAT:
            raise StoreError(f"the database has a store of format {row and row[0]}, this version reads {FORMAT}")

    def _connected(self) -> Connection:
        """The connection; a new one takes what the one before held."""
        if self._db is None or self._db.closed:
            self._db = psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_S)
            # A machine that is gone holds its locks until the database notices.
            for name, value in _KEEPALIVE.items():
                self._db.execute(f"SET {name} = {value}".encode())
            for run in self._held.claims:
                if not _locks(self._db, run):
                    raise _Taken(run)
        return self._db

    def _do(self, work: Callable[[Connection], Result], *, patience_s: float | None = None) -> Result:
        """Do `work` in a transaction of its own; again from the start as often as the connection breaks."""
        patience_s = self._patience_s if patience_s is None else patience_s
        ends_s, wait_s = time.monotonic() + patience_s, FIRST_WAIT_S
        while True:
            fresh = self._db is None
            try:
                with self._lock:
                    db = self._connected()
                    with db.transaction():
                        return work(db)
            except (psycopg.OperationalError, _Taken) as error:
                if isinstance(error, errors.DiskFull):
                    raise StoreFull(
                        "no room left to write in the database; everything up to the last finished round is safe. Free "
                        "some space and resume the run"
                    ) from error
                self._drop()
                if not fresh:
                    # Perhaps only this connection was broken.
                    continue
                if time.monotonic() >= ends_s:
                    raise StoreError(f"the database cannot be reached: {_said(error)}; is it running?") from error
            except psycopg.Error as error:
                raise StoreError(f"cannot use the database: {_said(error)}") from error
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _drop(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    def _write(self, work: Callable[[Connection], None]) -> None:
        """Write, if no other server leads."""

        def guarded(db: Connection) -> None:
            if self._term.number is not None:
                # Shared, so that runs do not wait for each other; a new leader waits until this is through.
                row = db.execute("SELECT value FROM umbel_about WHERE key='term' FOR SHARE").fetchone()
                if row is None or row[0] != self._term.number:
                    raise StoreError(
                        "another server leads the runs in this database now; this one may not write any more"
                    )
            work(db)

        self._do(guarded)

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._do(lambda db: db.execute(query.encode(), values).fetchall())

    def create(self, run: RunInfo) -> None:
        tried = False

        def insert(db: Connection) -> None:
            nonlocal tried
            row = (run.id, run.name, run.created_s, run.status, json.dumps(run.plan))
            done = db.execute(
                "INSERT INTO umbel_runs (id, name, created, status, plan) VALUES (%s,%s,%s,%s,%s) "
                "ON CONFLICT DO NOTHING",
                row,
            )
            if done.rowcount == 0 and not tried:
                raise StoreError(f"there is a run {run.id} already; choose another id or resume it")
            tried = True

        self._write(insert)

    def runs(self) -> list[RunInfo]:
        rows = self._rows("SELECT id, name, created, status, plan FROM umbel_runs ORDER BY created, place")
        return [RunInfo(*row[:4], plan=read_plan(row[0], row[4])) for row in rows]

    def _known(self, run: str) -> str:
        if not self._rows("SELECT 1 FROM umbel_runs WHERE id=%s", run):
            raise StoreError(f"there is no run {run} in the database")
        return run

    def set_status(self, run: str, status: str) -> None:
        values = (status, self._known(run))
        self._write(lambda db: _run(db, "UPDATE umbel_runs SET status=%s WHERE id=%s", values))

    def set_plan(self, run: str, plan: Mapping[str, Any], event: Event | None = None) -> None:
        values, token = (json.dumps(plan), self._known(run)), secrets.token_hex(16)

        def both(db: Connection) -> None:
            if event is not None:
                _add(db, run, token, event)
            _run(db, "UPDATE umbel_runs SET plan=%s WHERE id=%s", values)

        self._write(_once(run, token, both))

    def claim(self, run: str) -> None:
        if run in self._held.claims or not self._do(lambda db: _locks(db, run)):
            raise StoreError(f"run {run} is being run by another process; wait for it, or stop that one first")
        self._held.claims.add(run)

    def release(self, run: str) -> None:
        if run in self._held.claims:
            self._held.claims.remove(run)
            try:
                self._do(lambda db: _unlocks(db, run), patience_s=0.0)
            except StoreError:
                # The claim ended with the connection.
                return

    def is_claimed(self, run: str) -> bool:
        if run in self._held.claims:
            return True

        def look(db: Connection) -> bool:
            free = _locks(db, run)
            if free:
                _unlocks(db, run)
            return not free

        return self._do(look)

    def beside(self) -> PostgresStore:
        return PostgresStore(self._url, patience_s=PATIENCE_S, _term=self._term)

    def lead(self) -> bool:
        """As in `Store`. Who leads asks now and then, too: it leads until another server does.

        The lock ends with its connection, and is taken again with the next one if nobody else has led meanwhile.
        """
        try:
            found = self._do(self._lead, patience_s=0.0)
        except StoreError:
            return self._term.number is not None
        if self._term.number is None:
            # Not before its transaction is kept: else this server would wait for a term that never began.
            self._term.number = found
        return found is not None and found == self._term.number

    def _lead(self, db: Connection) -> int | None:
        """The term that is on now; a new one if this server begins to lead, None if it cannot."""
        # Asked again in one session the lock counts up; all of it ends with the session.
        free = _locks(db, _SERVER)
        if self._term.number is not None:
            query = "SELECT value FROM umbel_about WHERE key='term'"
        elif free:
            query = "UPDATE umbel_about SET value=value+1 WHERE key='term' RETURNING value"
        else:
            return None
        row = db.execute(query).fetchone()
        assert row is not None
        return row[0]

    def append(self, run: str, event: Event) -> None:
        self._write(self._added(run, event))

    def _added(self, run: str, event: Event) -> Callable[[Connection], None]:
        """What adds an event, once, however often it is done."""
        token = secrets.token_hex(16)
        return _once(run, token, lambda db: _add(db, run, token, event))

    def log(self, run: str) -> list[Event]:
        rows = self._rows("SELECT body FROM umbel_events WHERE run=%s ORDER BY number", self._known(run))
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
        token = secrets.token_hex(16)
        upsert = (
            "INSERT INTO umbel_states VALUES (%s,%s,%s,%s) "
            "ON CONFLICT (run, client, round) DO UPDATE SET body=excluded.body"
        )

        def all_of_it(db: Connection) -> None:
            _add(db, run, token, event)
            query = "SELECT DISTINCT round FROM umbel_checkpoints WHERE run=%s"
            there = {row[0] for row in db.execute(query, (run,)).fetchall()}
            since = max((number for number in there if number < round), default=NEVER)
            for client, state in states.items():
                if since < round - 1:
                    _run(db, _SUPERSEDE, (run, client, since, round))
                _run(db, upsert, (run, client, round, state))
            if checkpoint is None:
                return
            _run(db, "DELETE FROM umbel_checkpoints WHERE run=%s AND round=%s", (run, round))
            for number, part in enumerate(_pieces(checkpoint)):
                _run(db, "INSERT INTO umbel_checkpoints VALUES (%s,%s,%s,%s)", (run, round, number, part))
            kept = {round, *(number for number in there if number in keep)}
            for number in there - kept:
                _run(db, "DELETE FROM umbel_checkpoints WHERE run=%s AND round=%s", (run, number))
            for last, gone, stays in gaps(there, kept):
                _run(db, _PRUNE, (run, last, run, gone, stays, stays))

        self._write(_once(run, token, all_of_it))

    def checkpoints(self, run: str) -> list[int]:
        query = "SELECT DISTINCT round FROM umbel_checkpoints WHERE run=%s ORDER BY round"
        return [row[0] for row in self._rows(query, self._known(run))]

    def checkpoint(self, run: str, round: int) -> bytes:
        query = "SELECT body FROM umbel_checkpoints WHERE run=%s AND round=%s ORDER BY part"
        rows = self._rows(query, run, round)
        if not rows:
            raise StoreError(f"run {run} has no checkpoint of round {round}")
        return b"".join(row[0] for row in rows)

    def state(self, run: str, client: str, round: int) -> bytes | None:
        query = "SELECT body FROM umbel_states WHERE run=%s AND client=%s AND round<=%s ORDER BY round DESC LIMIT 1"
        rows = self._rows(query, run, client, round)
        return bytes(rows[0][0]) if rows else None

    def forget(self, run: str, round: int) -> None:
        values = (self._known(run), round)

        def remove(db: Connection) -> None:
            for table in ("umbel_checkpoints", "umbel_states"):
                _run(db, f"DELETE FROM {table} WHERE run=%s AND round>%s", values)

        self._write(remove)

    def close(self) -> None:
        with self._lock:
            self._held.claims.clear()
            if self._db is not None:
                # The database sees the end of a connection a little later, and the next leader need not wait.
                with suppress(psycopg.Error):
                    self._db.execute("SELECT pg_advisory_unlock_all()")
            self._drop()


@final
class _Taken(Exception):
    """A claim that ended with its connection is not free yet: the database may not have seen that it broke."""


def _once(run: str, token: str, work: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """`work`, unless it was done: a connection may break after its transaction was kept, and before that was heard."""

    def unless_done(db: Connection) -> None:
        # New ones are at the end.
        query = (
            "SELECT 1 FROM umbel_events WHERE run=%s AND token=%s "
            "AND number > (SELECT max(number) - 100 FROM umbel_events WHERE run=%s)"
        )
        if db.execute(query, (run, token, run)).fetchone() is None:
            work(db)

    return unless_done


def _add(db: Connection, run: str, token: str, event: Event) -> None:
    """Put an event at the end of a run's log."""
    query = "SELECT number, body FROM umbel_events WHERE run=%s ORDER BY number DESC LIMIT 1"
    row = db.execute(query, (run,)).fetchone()
    number, previous = (0, opening(run)) if row is None else (row[0], digest(read_last(run, row[1])))
    body = canonical(linked(event, previous)).decode()
    _run(db, "INSERT INTO umbel_events VALUES (%s,%s,%s,%s,%s)", (run, number + 1, token, event.get("round", 0), body))


def _run(db: Connection, query: str, values: Sequence[Any]) -> None:
    db.execute(query.encode(), values)


def _locks(db: Connection, what: str) -> bool:
    row = db.execute("SELECT pg_try_advisory_lock(%s, %s)", (_OURS, _place(what))).fetchone()
    return row is not None and bool(row[0])


def _unlocks(db: Connection, what: str) -> None:
    db.execute("SELECT pg_advisory_unlock(%s, %s)", (_OURS, _place(what)))


def _place(what: str) -> int:
    return int.from_bytes(hashlib.sha256(what.encode()).digest()[:4], "little", signed=True)


def _pieces(parts: Sequence[Part]) -> list[memoryview]:
    """The parts, none larger than a value should be."""
    views = [memoryview(part).cast("B") for part in parts]
    return [view[start : start + PART_BYTES] for view in views for start in range(0, len(view), PART_BYTES)]


def _said(error: Exception) -> str:
    """The first line of what the database says, which goes into one sentence."""
    if isinstance(error, _Taken):
        return f"run {error} is led by another process"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
