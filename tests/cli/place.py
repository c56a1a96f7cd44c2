"""A folder in which servers, nodes and commands run as people start them: each a process of its own."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time

import numpy as np

from umbel.arrays import Arrays
from umbel.cli.remote import Remote
from umbel.errors import IdentityError, LinkError

UMBEL = [sys.executable, "-m", "umbel"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Place:
    """A folder with its processes."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = {}

    def call(self, *words):
        return subprocess.run(
            [*UMBEL, *words], cwd=self.folder, capture_output=True, text=True, timeout=90, env=ENVIRONMENT
        )

    def fine(self, *words):
        done = self.call(*words)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def start(self, name, *words):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [*UMBEL, *words], cwd=self.folder, stdout=log, stderr=log, env=ENVIRONMENT
            )

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def until(self, condition, seconds=150.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError({name: self.log(name) for name in self.processes})

    def serve(self, *words, name="server"):
        """The address of a fresh server."""
        pattern = re.compile(r"^listening at (\S+) ", re.M)
        before = len(pattern.findall(self.log(name))) if name in self.processes else 0
        self.start(name, "server", "--app", "hospital", *words)
        return self.until(lambda: pattern.findall(self.log(name))[before:])[-1]

    def enrol(self, address, count, *words):
        """Nodes h0, h1, … of the app, invited and connected; `words` are more of theirs."""
        for number in range(count):
            code = self.fine("invite", "--name", f"h{number}", "--address", address)
            own = ["--name", f"h{number}", "--partition", str(number), "--folder", f"at-{number}"]
            self.start(f"h{number}", "node", "hospital", "--join", code, *own, *words)
        self.connected(count, *operator(address))

    def connected(self, count, *where):
        """Until so many nodes are, by the options that name a server. No command is started to see it: a few a second
        would take the time that the nodes need to start."""
        user = None if "--insecure" in where else self.folder / where[where.index("--as") + 1]
        address = where[where.index("--server") + 1]
        self.until(lambda: self._nodes(address, user) == count)

    @staticmethod
    def _nodes(address, user):
        try:
            return len(Remote(address, user).get("/v1/nodes")["nodes"])
        except (IdentityError, LinkError):
            # The operator's identity is written after the server said where it listens; and nobody answers while a
            # server that stands by takes over.
            return None

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait(timeout=20)

    def end(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(timeout=20)
        for name in self.processes:
            # An honest server's receipts are in order, whatever a test is about.
            assert "is not in order" not in self.log(name)


def operator(address):
    return ["--server", address, "--as", ".umbel/server/operator"]


def exported(place, run, name, *where):
    """The model of a run, by the options that name a server."""
    place.fine("export", run, f"{name}.safetensors", *where)
    return Arrays.load(str(place.folder / f"{name}.safetensors"))


def check_same(one, other):
    """Two models have the same bits."""
    assert list(one) == list(other)
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value)


def events(place):
    """The newest run at the server, None before there is one, and its log."""
    db = sqlite3.connect(place.folder / ".umbel" / "server" / "runs.db", timeout=30)
    try:
        [run] = db.execute("SELECT id FROM runs ORDER BY rowid DESC LIMIT 1").fetchone() or [None]
        bodies = db.execute("SELECT body FROM events WHERE run=? ORDER BY number", (run,))
        return run, [json.loads(body) for (body,) in bodies]
    finally:
        db.close()
