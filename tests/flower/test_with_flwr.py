"""The real package, unchanged, in an environment of its own: UMBEL_FLWR_PYTHON names its interpreter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import umbel as fl

from .by_hand import UmbelAdds

SCRIPTS = Path(__file__).with_name("scripts")
CLIENT, FEDERATION = SCRIPTS / "flwr_client.py", SCRIPTS / "federation.py"


@pytest.fixture
def flwr(tmp_path):
    """Starts a program with the real package."""
    python = os.environ.get("UMBEL_FLWR_PYTHON")
    if not python:
        pytest.skip(
            "UMBEL_FLWR_PYTHON is not set: it names the interpreter of an environment that has flwr, as "
            "benchmarks/peers.sh makes one"
        )
    clients: list[subprocess.Popen] = []

    def start(*arguments):
        # Its own environment: nothing of this one's modules, and a home of its own for what it writes.
        alone = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FLWR_TELEMETRY_ENABLED": "0"}
        clients.append(
            subprocess.Popen(
                [python, *map(str, arguments)],
                env=alone,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return clients[-1]

    yield start
    for client in clients:
        client.kill()
        client.communicate()


def simulated(clients, config):
    return fl.simulate(lambda ctx: UmbelAdds(ctx.partition_id), clients, config=config, engine="serial", progress=False)


def ended(client) -> int:
    output, _ = client.communicate(timeout=60)
    assert "Disconnect and shut down" in output, output
    return client.returncode


def test_a_mixed_round_has_the_bits_of_the_simulation_and_all_clients_exit_well(site, flwr):
    config = fl.ServerConfig(num_rounds=3, seed=3, min_available_clients=4)
    history, addresses = site.serve(config=config)
    address = addresses.get(timeout=20)
    programs = [flwr(CLIENT, address, 0, "client"), flwr(CLIENT, address, 1, "numpy_client")]
    own = [site.umbel(f"grpc://{address}", str(index), lambda ctx: UmbelAdds(ctx.partition_id)) for index in (2, 3)]
    found, expected = history.result(timeout=120), simulated(4, config)
    assert [ended(program) for program in programs] == [0, 0]
    assert [client.result(timeout=20) for client in own] == [None, None]
    assert found.parameters == expected.parameters
    assert [record.participants for record in found.rounds] == [4, 4, 4]
    for ours, theirs in zip(found.rounds, expected.rounds, strict=True):
        assert ours.loss == np.float32(theirs.loss)
        assert ours.metrics == theirs.metrics


def test_next_to_an_address_of_another_kind(site, flwr):
    config = fl.ServerConfig(num_rounds=2, seed=3, min_available_clients=2)
    history, addresses = site.serve("127.0.0.1:0", flower="127.0.0.1:0", config=config)
    own, flower = addresses.get(timeout=20), addresses.get(timeout=20)
    program = flwr(CLIENT, flower, 0, "client")
    site.umbel(own, "1", lambda ctx: UmbelAdds(ctx.partition_id))
    assert history.result(timeout=120).parameters == simulated(2, config).parameters
    assert ended(program) == 0


def test_one_without_evaluate_trains_and_one_that_raises_is_missed(site, flwr):
    config = fl.ServerConfig(num_rounds=2, seed=3, min_available_clients=2)
    history, addresses = site.serve(config=config, initial_parameters=[np.zeros(3, np.float32), np.zeros((2, 2))])
    address = addresses.get(timeout=20)
    plain, broken = flwr(CLIENT, address, 0, "without_evaluate"), flwr(CLIENT, address, 1, "raises")
    found = history.result(timeout=120)
    assert [record.participants for record in found.rounds] == [1, 1]
    assert {failure.reason for failure in found.rounds[0].failures} == {"its connection ended"}
    assert ended(plain) == 0
    assert broken.wait(timeout=60) != 0


def test_a_script_whose_server_runs_on_umbel_takes_the_clients_that_do_not(flwr):
    command = [sys.executable, "-u", "-m", "umbel.flower", str(FEDERATION), "server", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        address = re.search(r"listening at (\S+)", server.stdout.readline())
        assert address is not None
        clients = [flwr(FEDERATION, "client", address[1], index) for index in (0, 1)]
        output = server.communicate(timeout=120)[0]
    assert server.returncode == 0, output
    assert "largest: 3" in output
    assert [ended(client) for client in clients] == [0, 0]
