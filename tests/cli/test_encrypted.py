"""Encrypted rounds between real processes over TLS: torch, TenSEAL and gRPC, and keys that certificates vouch for."""

import importlib.util
import random
import re
import time

import pytest

from .place import Place, check_same, events, exported, operator

pytestmark = [
    pytest.mark.slow,
    # It is not loaded here: this process may have what TenSEAL does not go with.
    pytest.mark.skipif(importlib.util.find_spec("tenseal") is None, reason="tenseal is not installed"),
]
ROUNDS = ("--set", "num_rounds=4")
MORE = """
        coordinator=fl.Secure(clip=8.0, weight_cap=500, secure_sum=SMALL),
        initial_parameters=start(),
"""
MODEL = """import numpy as np
import umbel"""
START = """
SHAPES = {"0.weight": (16, 22), "0.bias": (16,), "2.weight": (2, 16), "2.bias": (2,)}
SMALL = fl.ckks(4096, coeff_mod_bits=(54, 55), scale_bits=21)


def start():
    return {name: np.full(shape, 0.01, np.float32) for name, shape in SHAPES.items()}


def run("""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("encrypted"))
    found.fine("new", "hospital", "--torch")
    run = found.folder / "hospital" / "hospital" / "run.py"
    code = run.read_text()
    assert code.count("fl.Run(\n") == 1
    run.write_text(
        code.replace("import umbel", MODEL).replace("\n\ndef run(", START).replace("fl.Run(\n", f"fl.Run(\n{MORE}")
    )
    yield found
    found.end()


@pytest.fixture(scope="module")
def address(place):
    """Two nodes come by TCP, two by gRPC."""
    found = place.serve("--listen", "127.0.0.1:0", "--also", "grpc://127.0.0.1:0")
    door = place.until(lambda: re.findall(r"^also listening at (grpc://\S+)", place.log("server"), re.M))[-1]
    for number in range(4):
        name, policy = str(number), place.folder / f"policy-{number}.toml"
        policy.write_text('[privacy]\nrequire_secure_aggregation = "encrypted"\n')
        code = place.fine("invite", "--name", name, "--address", found)
        own = ["--name", name, "--partition", str(number), "--folder", f"at-{number}", "--policy", str(policy)]
        place.start(name, "node", "hospital", "--join", code, *own, *(["--server", door] if number % 2 else []))
    place.until(lambda: "4 nodes are connected" in place.call("nodes", *operator(found)).stdout)
    return found


@pytest.fixture(scope="module")
def simulated(place):
    place.fine("run", "hospital", *ROUNDS)
    return exported(place, "last", "simulated")


def test_an_encrypted_run_of_enrolled_nodes_has_the_bits_of_the_simulation(place, address, simulated):
    shown = place.fine("run", "hospital", *ROUNDS, *operator(address))
    assert "finished after round 4" in shown
    check_same(simulated, exported(place, "last", "deployed", *operator(address)))


def test_an_encrypted_run_whose_server_is_killed_within_a_round_ends_in_the_bits_of_the_simulation(
    place, address, simulated
):
    seed = random.randrange(10**6)
    print("moment by random.Random", seed)
    before = events(place)[0]
    place.start("run", "run", "hospital", *ROUNDS, *operator(address))
    place.until(lambda: events(place)[0] != before)
    [took_s] = place.until(lambda: [e["seconds"] for e in events(place)[1] if e["kind"] == "round" and e["round"] == 1])
    time.sleep(random.Random(seed).random() * took_s)
    place.kill("server")
    door = re.findall(r"^also listening at (grpc://\S+)", place.log("server"), re.M)[-1]
    assert place.serve("--listen", address, "--also", door) == address
    assert place.processes["run"].wait(timeout=90) == 0, place.log("run")
    run, log = events(place)
    assert next(event["reason"] for event in log if event["kind"] == "ended") == "finished"
    assert [event["leadership"] for event in log if event["kind"] == "led"] == [1, 2]
    check_same(simulated, exported(place, run, "killed", *operator(address)))
