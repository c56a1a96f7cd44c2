"""A node in Python, one in JavaScript and one in C++ train one model over TLS, and no bit of it is another's."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from umbel.data import heart_disease

pytest.importorskip("starlette")
pytest.importorskip("cryptography")
UMBEL = (sys.executable, "-m", "umbel")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
HOSPITALS = ("Cleveland", "Hungary", "VA Long Beach")

# Sums in loops and in the patients' order: what the other two languages do, too, so that all bits can agree.
CLIENT = """
import csv

import umbel as fl


def guess(weights, bias, x):
    total = bias
    for w, value in zip(weights, x):
        total += w * value
    return total


class Linear(fl.NumPyClient):
    def __init__(self, path, lr, steps):
        with open(path) as file:
            rows = [[float(cell) for cell in row] for row in csv.reader(file)]
        self.patients = [(row[:-1], row[-1]) for row in rows]
        self.lr, self.steps = lr, steps

    def fit(self, parameters, config):
        weights, bias = parameters["weights"].tolist(), float(parameters["bias"][0])
        n = len(self.patients)
        for _ in range(self.steps):
            slope, slope_bias = [0.0] * len(weights), 0.0
            for x, y in self.patients:
                error = guess(weights, bias, x) - y
                for j, value in enumerate(x):
                    slope[j] += error * value
                slope_bias += error
            for j, value in enumerate(slope):
                weights[j] -= self.lr * (value / n)
            bias -= self.lr * (slope_bias / n)
        parameters["weights"][:], parameters["bias"][0] = weights, bias
        return parameters, n, {}

    def evaluate(self, parameters, config):
        weights, bias = parameters["weights"].tolist(), float(parameters["bias"][0])
        n = len(self.patients)
        loss = right = 0.0
        for x, y in self.patients:
            found = guess(weights, bias, x)
            loss += (found - y) * (found - y)
            right += (found > 0.5) == (y == 1)
        return loss / n, n, {"accuracy": right / n}


def client_fn(context):
    settings = context.config
    return Linear(f"{settings['folder']}/{context.partition_id}.csv", settings["lr"], settings["local_steps"])
"""
RUN = """
import numpy as np
import umbel as fl


def run(config):
    # What nobody trains makes the model large enough to travel in several chunks, both ways.
    model = {"weights": np.zeros(22), "bias": np.zeros(1), "rest": np.full(100_000, 0.5)}
    return fl.Run(num_clients=3, config=fl.ServerConfig(num_rounds=3, seed=1), initial_parameters=model)
"""
PROJECT = """
[project]
name = "heart"

[tool.umbel]
client = "heart.client:client_fn"
run = "heart.run:run"

[tool.umbel.config]
folder = "FOLDER"
lr = 0.05
local_steps = 20
"""


class Place:
    """A folder with an app, a server over TLS, and what nodes of it say."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = {}
        package = folder / "heart" / "heart"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "client.py").write_text(CLIENT)
        (package / "run.py").write_text(RUN)
        (folder / "heart" / "pyproject.toml").write_text(PROJECT.replace("FOLDER", str(folder)))
        for number, hospital in enumerate(HOSPITALS):
            write_patients(folder / f"{number}.csv", heart_disease()[hospital])
        self.start(
            "server", *UMBEL, "server", "--app", "heart", "--listen", "127.0.0.1:0", "--also", "grpc://127.0.0.1:0"
        )
        pattern = re.compile(r"listening at (\S+)", re.M)
        self.address, self.grpc = self.until(lambda: len(found := pattern.findall(self.log("server"))) == 2 and found)
        self.operator = ("--server", self.address, "--as", ".umbel/server/operator")

    def fine(self, *words):
        done = subprocess.run(
            [*UMBEL, *words], cwd=self.folder, capture_output=True, text=True, timeout=90, env=ENVIRONMENT
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def start(self, name, *words):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log, env=ENVIRONMENT)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def until(self, condition, seconds=150.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError({name: self.log(name) for name in self.processes})

    def invited(self, name):
        return "--join", self.fine("invite", "--name", name, "--address", self.address), "--name", name

    def start_python(self, number):
        name = f"h{number}"
        words = ("--partition", str(number), "--folder", f"at-{name}")
        self.start(name, *UMBEL, "node", "heart", *words, *self.invited(name))

    def start_foreign(self, client, number, *more):
        name = f"h{number}"
        known = (self.folder / f"at-{name}" / "identity.json").exists()
        options = () if known else self.invited(name)
        self.start(name, *client.example, f"at-{name}", f"{number}.csv", "heart", *options, *more)

    def connected(self):
        self.until(lambda: "3 nodes are connected" in self.fine("nodes", *self.operator))

    def run(self):
        self.start("run", *UMBEL, "run", "heart", *self.operator)

    def deployed(self):
        """The bytes of the model of the run at the server, once it is over."""
        self.until(lambda: "finished after round 3" in self.log("run"))
        self.fine("export", "last", "deployed.safetensors", *self.operator)
        return (self.folder / "deployed.safetensors").read_bytes()

    def simulated(self):
        """The bytes of the model of the same run with Python's client at all three places."""
        self.fine("run", "heart")
        self.fine("export", "last", "simulated.safetensors")
        return (self.folder / "simulated.safetensors").read_bytes()

    def end(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(timeout=20)


def write_patients(path, hospital):
    """Features in units of their spread, what was not measured at the mean; every digit of them."""
    measured = ~np.isnan(hospital.features)
    counts = np.maximum(measured.sum(axis=0), 1)
    means = np.where(measured, hospital.features, 0).sum(axis=0) / counts
    centred = np.where(measured, hospital.features - means, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / counts)
    features = centred / np.where(spread > 0, spread, 1.0)
    rows = zip(features.tolist(), hospital.labels.tolist(), strict=True)
    path.write_text("".join(",".join(map(repr, [*x, y])) + "\n" for x, y in rows))


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    yield found
    found.end()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", ["javascript", "cpp"])
def test_a_client_agrees_with_every_vector(language, request):
    client = request.getfixturevalue(language)
    done = subprocess.run(client.tests, cwd=client.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_three_languages_train_one_model_over_tls_with_the_bits_of_python_alone(place, javascript, cpp):
    place.start_python(0)
    place.start_foreign(javascript, 1)
    place.start_foreign(cpp, 2)
    place.connected()
    place.run()
    assert place.deployed() == place.simulated()
    for name in ("h1", "h2"):
        assert re.findall(r"^round (\d): training", place.log(name), re.M) == ["1", "2", "3"]


@pytest.mark.timeout(600)
def test_a_client_with_a_service_made_from_the_proto_trains_over_grpc_with_the_bits_of_python_alone(place, javascript):
    place.start_python(0)
    place.start_python(1)
    place.start_foreign(javascript, 2, "--server", place.grpc)
    place.connected()
    place.run()
    assert place.deployed() == place.simulated()
    assert f"connected to {place.grpc}" in place.log("h2")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", ["javascript", "cpp"])
def test_a_client_that_is_killed_in_the_middle_of_a_round_comes_back_and_no_bit_is_lost(language, place, request):
    client = request.getfixturevalue(language)
    place.start_python(0)
    place.start_python(1)
    # Slow enough to be in the middle of its training when it is killed.
    place.start_foreign(client, 2, "--pause-ms", "100")
    place.connected()
    place.run()
    place.until(lambda: "round 2: training" in place.log("h2"))
    place.processes["h2"].send_signal(signal.SIGKILL)
    assert place.processes["h2"].wait(timeout=20) == -signal.SIGKILL
    assert "finished" not in place.log("run")
    place.start_foreign(client, 2)
    assert place.deployed() == place.simulated()
    assert re.findall(r"^round (\d): training", place.log("h2"), re.M) == ["1", "2", "2", "3"]
