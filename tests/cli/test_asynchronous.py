"""One app whose run is asynchronous, simulated and at a server, by the commands that people use."""

import json
import re

import pytest

from .conftest import CLIENT, PROJECT, write_app
from .place import Place

RUN = """
import numpy as np
import umbel as fl

def run(config):
    plan = fl.ServerConfig(num_rounds=config["num_rounds"], seed=config["seed"])
    kind = fl.FedAsync(concurrency=3) if config["label"] == "mixed" else fl.Buffered(concurrency=3, buffer_size=3)
    return fl.Run(num_clients=3, config=plan, initial_parameters=[np.zeros(3, np.float32)], coordinator=kind,
                  system=fl.SystemModel())
"""


@pytest.fixture
def place(tmp_path):
    write_app(tmp_path / "means", client=CLIENT, run=RUN, project=PROJECT)
    found = Place(tmp_path)
    yield found
    found.end()


def test_an_asynchronous_app_runs_simulated_and_at_a_server(place):
    assert place.fine("check", "means") == "means: all is well"
    place.start("server", "server", "--app", "means", "--insecure", "--listen", "127.0.0.1:0")
    pattern = re.compile(r"^listening at (\S+) ", re.M)
    address = place.until(lambda: pattern.findall(place.log("server")))[-1]
    where = ["--server", address, "--insecure"]
    for number in range(3):
        words = ["--name", f"{number}", "--partition", str(number), "--folder", f"at-{number}"]
        place.start(f"{number}", "node", "means", *where, *words)
    place.fine("run", "means", *where)
    place.fine("export", "last", "deployed.safetensors", *where)
    place.fine("run", "means")
    place.fine("export", "last", "simulated.safetensors")
    # Nobody is stale where the buffer is as large as the federation.
    assert (place.folder / "deployed.safetensors").read_bytes() == (place.folder / "simulated.safetensors").read_bytes()
    place.fine("run", "means", "--set", "label='mixed'", "--set", "num_rounds=12", *where)
    assert json.loads(place.fine("ls", "--json", *where))[-1]["round"] == 12
    assert "FedAsync" in place.fine("show", "last", *where)
