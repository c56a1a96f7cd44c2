"""What the tests on a cluster share: looking at processes, waiting for files, losing a node while clients train."""

import time
from pathlib import Path


def stat(pid):
    """State, parent, … of a process; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ["X", "0"]


def parent(pid):
    return int(stat(pid)[1])


def is_alive(pid):
    return stat(pid)[0] not in "ZX"


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def pids(folder):
    """The processes that have left a file in `folder`."""
    return [int(path.name[4:]) for path in folder.glob("pid-*")]


def lose_a_node(nodes, folder):
    """Kill a node once clients train on three nodes, and let the others go on when its client is dead.

    They must wait in round 1: later a node that earlier calls have shown to be slow may rightly get nothing to do.
    """
    try:
        until(lambda: len(pids(folder)) == 3)
        playing = pids(folder)
        nodes.kill_one()
        until(lambda: not all(map(is_alive, playing)))
    finally:
        (folder / "go").touch()
