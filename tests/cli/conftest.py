import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from umbel.cli.entry import enter

UMBEL = Path(sys.executable).with_name("umbel")
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}

CLIENT = """
import numpy as np
import umbel as fl

class Mean(fl.NumPyClient):
    def __init__(self, value, lr): self.value, self.lr = value, lr
    def fit(self, parameters, config):
        return [w + self.lr * (self.value - w) for w in parameters], 1, {}
    def evaluate(self, parameters, config):
        return float(np.square(parameters[0] - 1.5).mean()), 1, {"size": 1.0}

def client_fn(context):
    return Mean(np.float32(context.partition_id), context.config["lr"])
"""
RUN = """
import numpy as np
import umbel as fl

def run(config):
    plan = fl.ServerConfig(num_rounds=config["num_rounds"], seed=config["seed"], fraction_fit=config["fraction"])
    return fl.Run(num_clients=4, config=plan, initial_parameters=[np.zeros(3, np.float32)])
"""
PROJECT = """
[project]
name = "means"

[tool.umbel]
client = "{package}.client:client_fn"
run = "{package}.run:run"

[tool.umbel.config]
num_rounds = 3
lr = 0.5
fraction = 0.5
seed = 1
label = "plain"
"""


@dataclass
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def umbel(tmp_path: Path) -> Callable[..., Result]:
    """The real command in a process of its own, in the test's folder."""

    def call(*arguments: str, environment: dict[str, str] | None = None) -> Result:
        done = subprocess.run(
            [UMBEL, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            env={**ENVIRONMENT, **(environment or {})},
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Result]]:
    """The command in this process, in the test's folder; what it imports is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def call(*arguments: str) -> Result:
        capfd.readouterr()
        code = enter(arguments)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    yield call
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if origin.startswith(str(tmp_path)):
            del sys.modules[name]


def write_app(folder: Path, *, client: str = CLIENT, run: str = RUN, project: str = PROJECT) -> Path:
    """A small app whose package has the folder's name."""
    package = folder / folder.name
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "client.py").write_text(client)
    (package / "run.py").write_text(run)
    (folder / "pyproject.toml").write_text(project.replace("{package}", folder.name))
    return folder


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_app(tmp_path / "means")
