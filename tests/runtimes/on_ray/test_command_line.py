"""`umbel run --engine ray` in a process of its own, on a cluster that loses a node; and a cluster on this machine."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from umbel.runtimes.lineage import living_descendants

from .steps import is_alive, lose_a_node, pids, until

UMBEL = Path(sys.executable).with_name("umbel")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
PROJECT = """
[project]
name = "walks"
[tool.umbel]
client = "walks.app:client_fn"
run = "walks.app:run"
[tool.umbel.config]
folder = ""
waits_in = 1
"""
APP = """
import os, time
from pathlib import Path
import numpy as np
import umbel as fl

class Walks(fl.NumPyClient):
    def __init__(self, context):
        self.context = context
    def fit(self, parameters, config):
        folder = self.context.config["folder"]
        if folder and config["server_round"] == self.context.config["waits_in"]:
            Path(folder, f"pid-{os.getpid()}").touch()
            while not Path(folder, "go").exists():
                time.sleep(0.01)
        return [parameters[0] + self.context.rng.standard_normal(3)], 1 + self.context.partition_id, {}

def client_fn(context):
    return Walks(context)

def run(config):
    return fl.Run(num_clients=12, config=fl.ServerConfig(num_rounds=3, seed=1, fraction_evaluate=0.0),
                  initial_parameters=[np.zeros(3)])
"""


@pytest.fixture
def app(tmp_path):
    (tmp_path / "walks" / "walks").mkdir(parents=True)
    (tmp_path / "walks" / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "walks" / "walks" / "app.py").write_text(APP)
    return tmp_path


def started(folder, *arguments):
    command = [UMBEL, "run", "walks", "--json", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # No variable of this process that names a cluster, and a group of its own for Ctrl-C.
    return subprocess.Popen(command, cwd=folder, text=True, env=ENVIRONMENT, start_new_session=True, **pipes)


def history(process, code=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return json.loads(out.splitlines()[-1])


def test_a_run_survives_the_loss_of_a_node_in_the_middle_of_a_round(nodes, app):
    nodes.grow(3)
    killer = threading.Thread(target=lose_a_node, args=(nodes, app))
    killer.start()
    disturbed = started(app, "--engine", "ray", "--cluster", nodes.address, "--set", f"folder={app}")
    ended = history(disturbed)
    killer.join()
    assert [record["participants"] for record in ended["rounds"]] == [12, 12, 12]
    assert not any(record["failures"] for record in ended["rounds"])
    assert ended["digest"] == history(started(app, "--engine", "serial"))["digest"]


def test_ctrl_c_keeps_finished_rounds_and_ends_everything_that_was_started(app):
    process = started(app, "--engine", "ray", "--workers", "2", "--set", f"folder={app}", "--set", "waits_in=2")
    until(lambda: len(pids(app)) == 2)
    family = [*pids(app), *living_descendants(process.pid)]
    os.killpg(process.pid, signal.SIGINT)
    ended = history(process, code=130)
    assert ended["ended"] == "interrupted"
    assert [record["round"] for record in ended["rounds"]] == [1]
    until(lambda: not any(map(is_alive, family)), 30)


def test_a_cluster_that_is_not_there_is_one_sentence(app):
    process = started(app, "--engine", "ray", "--cluster", "127.0.0.1:1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the cluster '127.0.0.1:1' cannot be joined" in err.splitlines()[-1]
