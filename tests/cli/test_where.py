"""Attributes of nodes as people give and see them: real processes, from `--attribute` to `umbel show`."""

import json

import pytest

from .conftest import PROJECT, write_app
from .place import Place

RUN = """
import numpy as np
import umbel as fl

def run(config):
    plan = fl.ServerConfig(num_rounds=2, seed=1, where=config["where"], min_available_clients=2)
    return fl.Run(num_clients=3, config=plan, initial_parameters=[np.zeros(3, np.float32)], attributes=attributes)

def attributes(client_id):
    return {"gpu": True, "region": "us" if client_id == "1" else "eu"}
"""


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    project = PROJECT.replace('label = "plain"', "where = \"gpu and region == 'eu'\"")
    write_app(tmp_path / "hospital", run=RUN, project=project)
    yield found
    found.end()


def test_the_same_program_samples_by_attributes_simulated_and_deployed(place):
    address = place.serve("--listen", "127.0.0.1:0", "--insecure")
    at = ["--server", address, "--insecure"]

    def node(number, *words):
        place.start(
            f"n{number}", "node", "hospital", *at, "--name", str(number), "--partition", str(number),
            "--folder", f"at-{number}", *words,
        )  # fmt: skip

    node(0, "--attribute", "gpu=true", "--attribute", "region=eu")
    # The owner's word wins over the command line.
    (place.folder / "policy.toml").write_text('[attributes]\nregion = "us"\nbeds = 12\n')
    node(1, "--attribute", "gpu=true", "--attribute", "region=eu", "--policy", "policy.toml")
    place.connected(2, *at)
    assert "    beds=12, gpu=true, region=us\n" in place.fine("nodes", *at)
    told = {node["name"]: node["attributes"] for node in json.loads(place.fine("nodes", "--json", *at))}
    assert told == {"0": {"gpu": True, "region": "eu"}, "1": {"gpu": True, "region": "us", "beds": 12}}

    place.start("run", "run", "hospital", "--set", "num_rounds=2", *at)
    waits = "waiting for nodes: 1 of 2 match gpu and region == 'eu' (2 connected)"
    place.until(lambda: waits in " ".join(place.call("show", "last", *at).stdout.split()))
    node(2, "--attribute", "gpu=true", "--attribute", "region=eu")
    place.until(lambda: "finished after round" in place.log("run"))
    assert "gpu and region == 'eu', which 2 match" in place.fine("show", "last", *at)
    place.fine("export", "last", "deployed.safetensors", *at)

    place.fine("run", "hospital")
    shown = json.loads(place.fine("show", "last", "--json"))
    assert (shown["matching"], shown["plan"]["config"]["where"]) == (2, "gpu and region == 'eu'")
    place.fine("export", "last", "simulated.safetensors")
    assert (place.folder / "deployed.safetensors").read_bytes() == (place.folder / "simulated.safetensors").read_bytes()


def test_a_bad_condition_or_attribute_ends_before_anything_begins(place):
    bad = place.call("run", "hospital", "--set", "where=gpu and region = 1")
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
    assert "is no condition, at character" in bad.stderr
    odd = place.call("node", "hospital", "--insecure", "--attribute", "region")
    assert odd.returncode == 2
    assert "an attribute is NAME=VALUE" in odd.stderr
    (place.folder / "policy.toml").write_text("[attributes]\nname = 'x'\n")
    owner = place.call("node", "hospital", "--insecure", "--policy", "policy.toml")
    assert owner.returncode == 2
    assert "the policy policy.toml: the attribute 'name' is the server's to know" in owner.stderr


def test_check_tells_that_a_condition_cannot_be_simulated(place):
    (place.folder / "hospital" / "hospital" / "run.py").write_text(RUN.replace(", attributes=attributes", ""))
    told = place.call("check", "hospital")
    assert "umbel run needs fl.Run(attributes=...) to simulate it" in told.stdout + told.stderr
    refused = place.call("run", "hospital")
    assert refused.returncode == 2
    assert "simulated clients say nothing" in refused.stderr
