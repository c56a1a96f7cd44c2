"""A server's folder is copied while a run is under way, lost, and put back: members stay, and the run goes on."""

import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BACKUP = ROOT / "deploy" / "backup.py"
UMBEL = [sys.executable, "-m", "umbel"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SETTINGS = ["--set", "num_rounds=60", "--set", "local_steps=3000", "--set", "lr=0.02"]


class Site:
    """Processes in one folder; each logs to a file of its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def fine(self, *words: str) -> str:
        done = subprocess.run(
            [*UMBEL, *words], cwd=self.folder, capture_output=True, text=True, timeout=90, env=ENVIRONMENT
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, name: str, *words: str) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [*UMBEL, *words], cwd=self.folder, stdout=log, stderr=log, env=ENVIRONMENT
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def until(self, condition, seconds=150.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError({name: self.log(name) for name in self.processes})


@pytest.fixture
def site(tmp_path):
    found = Site(tmp_path)
    yield found
    for process in found.processes.values():
        process.terminate()
    for process in found.processes.values():
        process.wait(timeout=40)


def rounds(folder: Path) -> int:
    """The last round whose checkpoint is in a server's folder."""
    db = sqlite3.connect(folder / "runs.db", timeout=30)
    try:
        return db.execute("SELECT max(round) FROM checkpoints").fetchone()[0] or 0
    finally:
        db.close()


@pytest.mark.slow
def test_a_backup_of_a_busy_server_brings_back_members_and_runs_to_the_same_bits(site):
    site.fine("new", "hospital")
    site.start("server", "server", "--app", "hospital", "--listen", "127.0.0.1:0")
    address = site.until(lambda: re.search(r"listening at (\S+) ", site.log("server")))[1]
    for number in range(4):
        code = site.fine("invite", "--name", f"h{number}", "--address", address)
        words = ["--join", code, "--name", f"h{number}", "--partition", str(number), "--folder", f"at-{number}"]
        site.start(f"h{number}", "node", "hospital", *words)
    to = ["--server", address, "--as", ".umbel/server/operator"]
    site.start("run", "run", "hospital", *SETTINGS, *to)
    folder, kept = site.folder / ".umbel" / "server", site.folder / "kept"
    site.until(lambda: rounds(folder) >= 2)
    done = subprocess.run([sys.executable, BACKUP, folder, kept], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    saved = rounds(kept)
    assert saved >= 2
    assert not list(kept.rglob("*-wal"))
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in (kept, *kept.rglob("*")))
    site.until(lambda: rounds(folder) > saved)

    site.processes["server"].kill()
    site.processes["server"].wait()
    assert "ended:" not in site.log("server")
    shutil.rmtree(folder)
    kept.rename(folder)
    site.start("server", "server", "--app", "hospital", "--listen", address)
    site.until(lambda: re.search(r"^run \S+ ended: finished", site.log("server"), re.M))
    assert site.processes["run"].wait(timeout=60) == 0, "who looked on has seen it through"
    members = json.loads(site.fine("members", "--json"))["members"]
    assert {f"h{number}" for number in range(4)} <= {member["name"] for member in members}
    site.fine("export", "last", "deployed.safetensors", *to)
    site.fine("run", "hospital", *SETTINGS)
    site.fine("export", "last", "simulated.safetensors")
    assert (site.folder / "deployed.safetensors").read_bytes() == (site.folder / "simulated.safetensors").read_bytes()


def test_a_backup_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "kept").mkdir()
    done = subprocess.run(
        [sys.executable, BACKUP, tmp_path / "server", tmp_path / "kept"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "a TARGET that is not" in done.stderr
