"""What an authority remembers, in one SQLite file: invitations, members, the certificates issued, and wrong secrets.

Several processes may use it at once: `umbel invite` while the server runs. What one has committed, all others see.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from umbel.errors import IdentityError
from umbel.identity.federation import DEFAULT, Federation, from_text

# Format 2 has federations. A file becomes one with the first that is made, so that no older version, which would let
# everybody see everything, leads it.
FORMAT, WITH_FEDERATIONS = 1, 2
# Seconds after which what has ended is forgotten.
KEPT_S = 90 * 86400.0
LATELY_S = 60.0
PATIENCE_S = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS invitations (
    id INTEGER PRIMARY KEY, secret BLOB UNIQUE, address TEXT, name TEXT, role TEXT,
    created REAL, expires REAL, used REAL, used_by TEXT);
CREATE TABLE IF NOT EXISTS members (name TEXT PRIMARY KEY, role TEXT, since REAL, revoked REAL);
CREATE TABLE IF NOT EXISTS certificates (
    fingerprint BLOB PRIMARY KEY, name TEXT, role TEXT, first REAL, last REAL,
    ended REAL, why TEXT, invitation INTEGER, pem BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS certificates_of_member ON certificates (name);
CREATE TABLE IF NOT EXISTS wrong (at REAL);
CREATE TABLE IF NOT EXISTS federations (name TEXT PRIMARY KEY, body TEXT, removed REAL);
CREATE TABLE IF NOT EXISTS belongs (member TEXT PRIMARY KEY, federation TEXT);
CREATE TABLE IF NOT EXISTS invited (invitation INTEGER PRIMARY KEY, federation TEXT);
"""


@final
@dataclass(frozen=True)
class Invitation:
    """One code that was given out. The code itself is not kept.

    Attributes:
        name: whom it is for; None lets in whoever has it, under a free name.
        used_by: the name of who used it.
    """

    id: int
    address: str
    name: str | None
    role: str
    created_at_s: float
    expires_at_s: float
    used_at_s: float | None
    used_by: str | None
    federation: str = DEFAULT


@final
@dataclass(frozen=True)
class Member:
    """Somebody who has joined.

    Attributes:
        expires_at_s: when the newest certificate ends.
        revoked_at_s: None is a member in good standing.
    """

    name: str
    role: str
    since_s: float
    expires_at_s: float
    revoked_at_s: float | None
    federation: str = DEFAULT


@final
@dataclass(frozen=True)
class Issued:
    """A certificate that this authority issued.

    Attributes:
        ended_at_s: when it was revoked or replaced; None if it was not.
        why_ended: which of the two, as words that go on from "the certificate of …".
    """

    name: str
    role: str
    first_s: float
    last_s: float
    ended_at_s: float | None
    why_ended: str | None
    pem: bytes


@final
class Ledger:
    """The file.

    Raises:
        IdentityError: it cannot be opened, or is of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock, self._look_lock = threading.RLock(), threading.Lock()
        with self._errors():
            # SQLite gives its companion files the mode of the file itself, which so has to be right from the start.
            # One that is there is not even opened: to close it would end the locks of other connections to it.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S, check_same_thread=False)
            # A look-up of its own: it never waits for whoever writes, in this process or another.
            self._looks = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        with self._errors():
            self._log_ahead()
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)
            self._db.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (str(FORMAT),))
            found = self._db.execute("SELECT value FROM about WHERE key='format'").fetchone()[0]
        if found not in (str(FORMAT), str(WITH_FEDERATIONS)):
            raise IdentityError(
                f"{self.path} has format {found}, this version reads {FORMAT} and {WITH_FEDERATIONS}; update Umbel"
            )

    def _log_ahead(self) -> None:
        """Let readers and a writer not wait for each other. The file remembers it.

        SQLite does not wait for its lock here, unlike everywhere else: of two who make the file at once, one is told
        that it is locked.
        """
        ends_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > ends_s:
                    raise
            time.sleep(0.005)

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise IdentityError(
                f"cannot use {self.path}, which remembers the members: {error}; restore it from a backup, or make room"
            ) from None

    @contextmanager
    def alone(self) -> Generator[None]:
        """Nobody else writes, in any process, until the end; then all of it is durable, or after an error nothing."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            with self._errors():
                self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                with self._errors():
                    self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
            return self._db.execute(query, values).fetchall()

    def invite(
        self,
        secret: bytes,
        address: str,
        name: str | None,
        role: str,
        now_s: float,
        expires_s: float,
        federation: str = DEFAULT,
    ) -> None:
        """Remember the hash of a secret."""
        with self.alone():
            old_s = now_s - KEPT_S
            self._rows("DELETE FROM invitations WHERE expires < ?", old_s)
            # Numbers are used again.
            self._rows("DELETE FROM invited WHERE invitation NOT IN (SELECT id FROM invitations)")
            self._rows(
                "INSERT INTO invitations (secret, address, name, role, created, expires) VALUES (?,?,?,?,?,?)",
                *(secret, address, name, role, now_s, expires_s),
            )
            if federation != DEFAULT:
                self._rows("INSERT INTO invited SELECT id, ? FROM invitations WHERE secret=?", federation, secret)

    def invitation(self, secret: bytes) -> Invitation | None:
        """The one with this hash. How long it takes says nothing about the hashes that there are."""
        found: int | None = None
        for number, known in self._rows("SELECT id, secret FROM invitations"):
            if hmac.compare_digest(known, secret):
                found = number
        return next((one for one in self.invitations() if one.id == found), None)

    def invitations(self) -> list[Invitation]:
        rows = self._rows(
            "SELECT id, address, name, role, created, expires, used, used_by, coalesce(federation, ?) "
            "FROM invitations LEFT JOIN invited ON invitation=id ORDER BY id",
            DEFAULT,
        )
        return [Invitation(*row) for row in rows]

    def use(self, invitation: Invitation, name: str, now_s: float) -> None:
        self._rows("UPDATE invitations SET used=?, used_by=? WHERE id=?", now_s, name, invitation.id)

    def members(self) -> list[Member]:
        rows = self._rows(
            "SELECT m.name, m.role, m.since, coalesce(max(c.last), m.since), m.revoked, coalesce(b.federation, ?) "
            "FROM members AS m LEFT JOIN certificates AS c ON c.name=m.name LEFT JOIN belongs AS b ON b.member=m.name "
            "GROUP BY m.name ORDER BY m.name",
            DEFAULT,
        )
        return [Member(*row) for row in rows]

    def has_member(self, name: str) -> bool:
        return bool(self._rows("SELECT 1 FROM members WHERE name=?", name))

    def admit(self, name: str, role: str, now_s: float, federation: str = DEFAULT) -> None:
        """A member joins, or joins again: what it had before ends."""
        self._end(name, "was replaced when the node joined again", now_s)
        self._rows(
            "INSERT INTO members VALUES (?1,?2,?3,NULL) "
            "ON CONFLICT (name) DO UPDATE SET role=excluded.role, since=excluded.since, revoked=NULL",
            *(name, role, now_s),
        )
        self._rows("INSERT OR REPLACE INTO belongs VALUES (?,?)", name, federation)

    def belongs(self, name: str) -> str:
        """The federation of a member, as far as it is durable."""
        with self._look_lock, self._errors():
            rows = self._looks.execute("SELECT federation FROM belongs WHERE member=?", (name,)).fetchall()
        return rows[0][0] if rows else DEFAULT

    def federations(self) -> list[Federation]:
        """All that were not removed, by name; the default one is always there."""
        with self._look_lock, self._errors():
            rows = self._looks.execute("SELECT name, body FROM federations WHERE removed IS NULL").fetchall()
        found = {DEFAULT: Federation(name=DEFAULT), **{name: from_text(name, body) for name, body in rows}}
        return [found[name] for name in sorted(found)]

    def federation(self, name: str) -> Federation | None:
        """The one of this name, if it was not removed."""
        return next((one for one in self.federations() if one.name == name), None)

    def was_federation(self, name: str) -> bool:
        """Whether there is one of this name, or ever was."""
        return name == DEFAULT or bool(self._rows("SELECT 1 FROM federations WHERE name=?", name))

    def set_federation(self, federation: Federation) -> None:
        """Make it, or change it."""
        with self.alone():
            self._rows("UPDATE about SET value=? WHERE key='format'", str(WITH_FEDERATIONS))
            self._rows("INSERT OR REPLACE INTO federations VALUES (?,?,NULL)", federation.name, federation.to_text())

    def remove_federation(self, name: str, now_s: float) -> None:
        """Its name stays taken: its runs are still there."""
        self._rows("UPDATE federations SET removed=? WHERE name=?", now_s, name)

    def revoke(self, name: str, now_s: float) -> None:
        """End a member's certificates, and the open invitations that name it."""
        with self.alone():
            self._rows("UPDATE members SET revoked=? WHERE name=? AND revoked IS NULL", now_s, name)
            self._rows("UPDATE invitations SET expires=min(expires, ?) WHERE name=? AND used IS NULL", now_s, name)
            self._end(name, "was revoked", now_s)

    def _end(self, name: str, why: str, now_s: float) -> None:
        self._rows("UPDATE certificates SET ended=?, why=? WHERE name=? AND ended IS NULL", now_s, why, name)

    def issue(self, fingerprint: bytes, issued: Issued, invitation: int | None, now_s: float) -> None:
        """Remember a certificate."""
        self._rows("DELETE FROM certificates WHERE last < ?", now_s - KEPT_S)
        self._rows(
            "INSERT INTO certificates VALUES (?,?,?,?,?,NULL,NULL,?,?)",
            *(fingerprint, issued.name, issued.role, issued.first_s, issued.last_s, invitation, issued.pem),
        )

    def issued(self, fingerprint: bytes) -> Issued | None:
        """A certificate by its SHA-256, as far as it is durable."""
        query = "SELECT name, role, first, last, ended, why, pem FROM certificates WHERE fingerprint=?"
        with self._look_lock, self._errors():
            rows = self._looks.execute(query, (fingerprint,)).fetchall()
        return Issued(*rows[0]) if rows else None

    def issued_for(self, invitation: int) -> Issued | None:
        """The certificate that an invitation led to."""
        rows = self._rows(
            "SELECT name, role, first, last, ended, why, pem FROM certificates WHERE invitation=?", invitation
        )
        return Issued(*rows[0]) if rows else None

    def count_wrong(self, now_s: float) -> int:
        """Count a wrong secret; how many there were lately."""
        with self.alone():
            self._rows("DELETE FROM wrong WHERE at < ? OR at > ?", now_s - LATELY_S, now_s)
            self._rows("INSERT INTO wrong VALUES (?)", now_s)
            self._rows(
                "INSERT INTO about VALUES ('wrong', '1') "
                "ON CONFLICT (key) DO UPDATE SET value=CAST(value AS INTEGER) + 1"
            )
            return self._rows("SELECT count(*) FROM wrong")[0][0]

    def wrong(self) -> int:
        """How many wrong secrets there ever were."""
        rows = self._rows("SELECT value FROM about WHERE key='wrong'")
        return int(rows[0][0]) if rows else 0

    def close(self) -> None:
        with self._lock, self._look_lock:
            self._db.close()
            self._looks.close()
