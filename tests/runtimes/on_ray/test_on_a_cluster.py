"""The engine ray on a real cluster: same bits as serial, nodes and actors that are lost, clients that kill."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import umbel as fl
from umbel.testing import check_engine

from .steps import lose_a_node, parent, until

pytest.importorskip("ray", reason="ray is not installed")
import ray

pytestmark = pytest.mark.usefixtures("joined")
CLIENTS = 12


class Adds(fl.NumPyClient):
    def __init__(self, context):
        self.context = context

    def fit(self, parameters, config):
        noise = self.context.rng.standard_normal(parameters[0].shape)
        return [parameters[0] + noise], 1 + self.context.partition_id, {}


def simulated(client_fn, engine="ray", size=3, **changes):
    config = {"num_rounds": 2, "seed": 1, "fraction_evaluate": 0.0, **changes}
    return fl.simulate(
        client_fn,
        CLIENTS,
        config=fl.ServerConfig(**config),
        initial_parameters=[np.zeros(size)],
        engine=engine,
        progress=False,
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_nodes_gives_the_bits_of_serial(nodes, count):
    nodes.grow(count)
    assert simulated(Adds).parameters == simulated(Adds, "serial").parameters


def test_a_cluster_keeps_the_laws_of_engines(nodes):
    nodes.grow(3)
    check_engine("ray")


class Waits(Adds):
    """Leaves its process id in a folder, then waits there until it may go on."""

    def __init__(self, context, folder):
        super().__init__(context)
        self.folder = folder

    def fit(self, parameters, config):
        if config["server_round"] == 2:
            (self.folder / f"pid-{os.getpid()}").touch()
            until((self.folder / "go").exists)
        return super().fit(parameters, config)


def test_a_node_that_is_lost_while_clients_train_costs_time_and_no_bit(nodes, tmp_path):
    nodes.grow(3)
    killer = threading.Thread(target=lose_a_node, args=(nodes, tmp_path))
    killer.start()
    disturbed = simulated(lambda context: Waits(context, tmp_path), num_rounds=3)
    killer.join()
    assert disturbed.parameters == simulated(Adds, "serial", num_rounds=3).parameters
    assert [record.participants for record in disturbed.rounds] == [CLIENTS] * 3


def test_an_actor_that_is_killed_is_replaced_and_its_clients_are_asked_again(nodes, tmp_path):
    class TakesItsActorAlongOnce(Adds):
        def fit(self, parameters, config):
            if self.context.partition_id == 5 and not (tmp_path / "done").exists():
                (tmp_path / "done").touch()
                os.kill(parent(parent(os.getpid())), signal.SIGKILL)
                time.sleep(60)
            return super().fit(parameters, config)

    disturbed = simulated(TakesItsActorAlongOnce)
    assert (tmp_path / "done").exists()
    assert disturbed.parameters == simulated(Adds, "serial").parameters
    assert not any(record.failures for record in disturbed.rounds)


def test_a_client_that_kills_its_process_twice_has_failed_and_nothing_else_is_lost():
    class Kills(Adds):
        def fit(self, parameters, config):
            if self.context.partition_id == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().fit(parameters, config)

    record = simulated(Kills, num_rounds=1).rounds[0]
    assert record.participants == CLIENTS - 1
    assert [failure.client for failure in record.failures] == ["2"]
    assert "its worker process died twice (killed by SIGKILL" in record.failures[0].reason


def test_a_client_that_always_takes_its_actor_along_has_failed_and_nothing_else_is_lost():
    class TakesItsActorAlong(Adds):
        def fit(self, parameters, config):
            if self.context.partition_id == 2:
                os.kill(parent(parent(os.getpid())), signal.SIGKILL)
                time.sleep(60)
            return super().fit(parameters, config)

    record = simulated(TakesItsActorAlong, num_rounds=1).rounds[0]
    assert record.participants == CLIENTS - 1
    assert [failure.client for failure in record.failures] == ["2"]
    assert "actor died twice" in record.failures[0].reason


def test_no_actor_is_left_behind_and_the_cluster_goes_on():
    simulated(Adds, num_rounds=1)
    assert ray.is_initialized()
    until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources().get("CPU"))
