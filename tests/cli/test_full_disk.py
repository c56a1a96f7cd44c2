"""A full disk at `umbel server`: a real one, small and in memory, which fills up."""

import json
import os
import subprocess
import sys

import pytest

from .place import Place

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounts a small file system"
)

RUN = """
import numpy as np
import umbel as fl

def run(config):
    plan = fl.ServerConfig(num_rounds=2, seed=1, fraction_evaluate=0.0)
    return fl.Run(num_clients=2, config=plan, initial_parameters=[np.zeros(config["size"], np.float32)])
"""
CLIENT = """
import os
import numpy as np
import umbel as fl

class One(fl.NumPyClient):
    def fit(self, parameters, config):
        disk = os.path.dirname(config["fills"])
        once = os.path.join(os.path.dirname(disk), "filled")
        if config["fills"] and not os.path.exists(once):
            open(once, "w").close()
            # Between the model's coming and the update's: what is left of the server's disk goes to somebody else.
            with open(config["fills"], "wb") as file:
                free = os.statvfs(disk)
                file.write(bytes(free.f_bavail * free.f_frsize))
        return [parameters[0] + 1], 1, {}

def client_fn(context):
    return One()
"""
SMALL, LARGE, ENOUGH = 100_000, 200_000, 4_000_000


class Disk:
    """A file system of 24 MB."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr}")

    def grow(self):
        subprocess.run(["mount", "-o", "remount,size=400m", self.folder], check=True)


@pytest.fixture
def disk(tmp_path):
    found = Disk(tmp_path / "disk")
    yield found
    subprocess.run(["umount", "-l", found.folder], check=True)


@pytest.fixture
def place(tmp_path, disk):
    found = Place(tmp_path)
    found.fine("new", "hospital")
    package = tmp_path / "hospital" / "hospital"
    (package / "run.py").write_text(RUN)
    (package / "client.py").write_text(CLIENT)
    project = tmp_path / "hospital" / "pyproject.toml"
    text = project.read_text()
    head = text[: text.index("[tool.umbel.config]")]
    project.write_text(head + f'[tool.umbel.config]\nsize = {SMALL}\nfills = ""\n')
    yield found
    found.end()


def joined(place, *words):
    address = place.serve("--insecure", "--folder", "disk/s", "--listen", "127.0.0.1:0", *words)
    where = ["--server", address, "--insecure"]
    for name in ("0", "1"):
        place.start(name, "node", "hospital", *where, "--name", name, "--folder", f"at-{name}", "--partition", name)
    place.connected(2, *where)
    return where


def statuses(place, where):
    return [run["status"] for run in json.loads(place.fine("ls", "--json", *where))]


def test_a_run_whose_beginning_has_no_room_fails_for_its_user_too_and_goes_on_when_there_is(place, disk):
    where = joined(place)
    failed = place.call("run", "hospital", "--set", f"size={ENOUGH}", *where)
    assert failed.returncode == 1
    assert "failed: the server has no room left on its disk" in failed.stdout
    assert str(disk.folder) not in failed.stdout + failed.stderr, "a researcher need not know the server's paths"
    assert "no room left to write" in place.log("server")
    assert statuses(place, where) == ["failed"]
    assert "no room left on its disk" in place.call("logs", *where).stdout
    stopped = place.call("stop", "last", *where)
    assert stopped.returncode == 2
    assert "is not under way: its status is failed" in stopped.stderr
    again = place.call("resume", "last", *where)
    assert again.returncode == 1
    assert "no room left on its disk" in again.stdout
    other = place.call("run", "hospital", "--set", "size=10", *where)
    assert other.returncode != 0
    assert "the server has no room left on its disk" in other.stderr + other.stdout
    disk.grow()
    # What the failed run had under way takes no room from others.
    assert "finished after round 2" in place.fine("run", "hospital", "--set", f"size={ENOUGH}", *where)
    first = json.loads(place.fine("ls", "--json", *where))[0]["run"]
    assert "finished after round 2" in place.fine("resume", first, *where)
    assert statuses(place, where) == ["finished", "finished"]


@pytest.mark.parametrize("size", [1000, LARGE], ids=["an update that comes at once", "an update that is announced"])
def test_a_disk_that_fills_while_an_update_comes_is_not_its_clients_fault(place, disk, size):
    where = joined(place, "--spool")
    fills = disk.folder / "somebody-elses"
    failed = place.call("run", "hospital", "--set", f"size={size}", "--set", f'fills="{fills}"', *where)
    assert failed.returncode == 1, failed.stdout
    assert "failed: the server has no room left on its disk" in failed.stdout
    assert "no room to spool an update" in place.log("server")
    assert str(disk.folder) not in failed.stdout + failed.stderr
    assert statuses(place, where) == ["failed"]
    fills.unlink()
    assert "finished after round 2" in place.fine("resume", "last", *where)
