"""More doors of `umbel server`: real processes come by TCP, gRPC, WebSocket and as clients written for Flower."""

import re
import threading

import pytest
from tests.flower.by_hand import PROTO, Adds, Dialect, converse

from .conftest import CLIENT, PROJECT, write_app
from .place import Place, operator

RUN = """
import numpy as np
import umbel as fl

def run(config):
    plan = fl.ServerConfig(num_rounds=config["num_rounds"], seed=1)
    model = [np.zeros(3, np.float32), np.zeros((2, 2))]
    return fl.Run(num_clients=config["clients"], config=plan, initial_parameters=model)
"""
SETTINGS = PROJECT.replace("seed = 1", "clients = 3")
FLOWER = SETTINGS.replace("[tool.umbel]\n", "[tool.umbel]\nflower = true\n").replace("means", "guests")


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    write_app(tmp_path / "hospital", run=RUN, project=SETTINGS)
    yield found
    found.end()


def doors(place, *schemes):
    words = [word for scheme in schemes for word in ("--also", f"{scheme}://127.0.0.1:0")]
    address = place.serve("--listen", "127.0.0.1:0", *words)
    pattern = re.compile(r"^also listening at (\w+://\S+)", re.M)
    others = place.until(
        lambda: (found := pattern.findall(place.log("server"))) and len(found) == len(schemes) and found
    )
    return address, others


def node(place, name, number, door, address):
    folder = place.folder / f"at-{name}"
    code = (
        []
        if folder.exists()
        else ["--join", place.fine("invite", "--name", name, "--address", address), "--name", name]
    )
    place.start(name, "node", "hospital", *code, "--partition", str(number), "--folder", str(folder), "--server", door)


def test_nodes_at_three_doors_train_one_model_with_the_bits_of_the_simulation_and_revoked_ones_are_refused(place):
    address, (grpc, ws) = doors(place, "grpc", "ws")
    at = operator(address)
    places = {"a": address, "b": grpc, "c": ws.replace("ws://", "wss://")}
    for number, (name, door) in enumerate(places.items()):
        node(place, name, number, door, address)
    place.connected(3, *at)
    place.fine("run", "hospital", *at)
    place.fine("export", "last", "deployed.safetensors", *at)
    place.fine("run", "hospital")
    place.fine("export", "last", "simulated.safetensors")
    assert (place.folder / "deployed.safetensors").read_bytes() == (place.folder / "simulated.safetensors").read_bytes()

    # Over gRPC and WebSocket, too, a stream ends at once, and does not begin anew.
    for name in places:
        place.fine("revoke", name, *at)
        assert place.processes[name].wait(timeout=30) != 0
        assert "refuses this node" in place.log(name)
    for number, (name, door) in enumerate(places.items()):
        node(place, name, number, door, address)
        assert place.processes[name].wait(timeout=30) != 0
        assert place.log(name).count("refuses this node") == 2


def test_who_has_no_certificate_or_no_tls_gets_in_at_no_door(place):
    address, others = doors(place, "grpc", "ws")
    for number, door in enumerate(others):
        name = f"stranger{number}"
        place.start(name, "node", "hospital", "--insecure", "--name", name, "--folder", name, "--server", door)
        place.until(lambda name=name: "trying again in" in place.log(name))
    assert "0 nodes are connected" in place.fine("nodes", *operator(address))


def test_flower_clients_take_part_in_runs_of_apps_that_say_so_and_in_no_other(place):
    write_app(place.folder / "guests", client=CLIENT, run=RUN, project=FLOWER)
    place.start("server", "server", "--app", "hospital", "--app", "guests", "--listen", "127.0.0.1:0",
                "--also", "flower://127.0.0.1:0")  # fmt: skip
    pattern = re.compile(r"listening at (\S+) ", re.M)
    address, flower = place.until(lambda: len(found := pattern.findall(place.log("server"))) == 2 and found)
    at = operator(address)
    threading.Thread(target=guest, args=(flower.removeprefix("flower://"), place.folder), daemon=True).start()
    place.connected(1, *at)
    place.start("other", "run", "hospital", "--set", "clients=1", *at)
    place.until(lambda: "waiting for nodes: 0 of 1 are ready" in place.log("other"))
    place.fine("stop", "last", *at)
    assert "finished after round 3" in place.fine("run", "guests", "--set", "clients=1", *at)


def guest(address, folder):
    """A program that speaks Flower's own protocol."""
    converse(address, Adds(Dialect(folder / "dialect", PROTO.read_text())))


def test_a_door_that_is_no_address_is_refused_before_anything_listens(place):
    for bad in (
        "ws://",
        "grpc://127.0.0.1",
        "ws://127.0.0.1:0/path",
        "ws://me@127.0.0.1:0",
        "flower://127.0.0.1:70000",
    ):
        done = place.call("server", "--insecure", "--listen", "127.0.0.1:0", "--also", bad)
        assert done.returncode == 2
        assert f"got {bad!r}" in done.stderr
        assert "listening" not in done.stdout + done.stderr
        assert not (place.folder / ".umbel" / "server").exists()


def test_a_door_of_another_kind_is_refused(place):
    for bad in ("127.0.0.1:0", "tcp://127.0.0.1:0", "udp://127.0.0.1:0"):
        done = place.call("server", "--also", bad)
        assert done.returncode == 2
        assert "--also is grpc://host:port, ws://host:port or flower://host:port" in done.stderr
