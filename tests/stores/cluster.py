"""A PostgreSQL of a test's own: in a folder of its own, at a Unix socket there, as a user that is not root."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg", reason="the extra postgres is not installed")


def _programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    beside = shutil.which("initdb")
    return found[-1] if found else Path(beside).resolve().parent if beside else None


class Cluster:
    """A database that can be killed and started again."""

    def __init__(self):
        programs = _programs()
        if programs is None:
            pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        self._programs = programs
        # Short, as the path of a socket has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._as = []
        if os.getuid() == 0:
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(self.folder, "postgres", "postgres")
        self.url = f"postgresql:///postgres?host={self.folder}&user=postgres"
        self._process = None
        made = [programs / "initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run([*self._as, *map(str, made)], check=True, capture_output=True, cwd="/")
        self.start()

    def start(self):
        options = ["-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", "max_connections=40"]
        command = [self._programs / "postgres", "-D", self.folder / "data", "-k", self.folder, *options]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen([*self._as, *map(str, command)], stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                continue
            return
        raise AssertionError((self.folder / "log").read_text())

    def kill(self):
        """End at once, without a checkpoint: the next start recovers."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=30)

    def break_connections(self):
        with psycopg.connect(self.url, autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid<>pg_backend_pid() AND datname='postgres'"
            )

    def empty(self):
        """Without tables."""
        with psycopg.connect(self.url, autocommit=True) as db:
            db.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def end(self):
        self.kill()
        shutil.rmtree(self.folder)
