"""The engine ray on a real cluster: same bits as serial, nodes and actors that are lost, clients that kill."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import umbel as fl
from umbel.errors import EngineError
from umbel.message import Ask, Task
from umbel.runtimes.program import Program
from umbel.testing import check_engine

from .steps import lose_a_node, parent, pids, until

pytest.importorskip("ray", reason="ray is not installed")
import ray

from umbel.runtimes.ray import RayEngine

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


@pytest.mark.parametrize("count", [1, 2])
def test_any_number_of_nodes_gives_the_bits_of_serial(nodes, count):
    nodes.grow(count)
    assert simulated(Adds).parameters == simulated(Adds, "serial").parameters


@pytest.mark.parametrize(
    "coordinator", [fl.Buffered(concurrency=8, buffer_size=4), fl.FedAsync(concurrency=4)], ids=["FedBuff", "FedAsync"]
)
def test_stale_updates_are_scaled_and_mixed_as_by_serial(coordinator):
    ray_, serial = (
        fl.simulate(
            Adds,
            CLIENTS,
            config=fl.ServerConfig(num_rounds=4, seed=1, fraction_evaluate=0.0),
            initial_parameters=[np.zeros(3)],
            system=fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.0)),
            coordinator=coordinator,
            engine=engine,
            progress=False,
        )
        for engine in ("ray", "serial")
    )
    assert ray_.parameters == serial.parameters


class Waits(Adds):
    """Leaves its process id in a folder, then waits there until it may go on."""

    def __init__(self, context, folder):
        super().__init__(context)
        self.folder = folder

    def fit(self, parameters, config):
        if config["server_round"] == 1:
            (self.folder / f"pid-{os.getpid()}").touch()
            until((self.folder / "go").exists)
        return super().fit(parameters, config)


def test_a_node_that_joins_in_the_middle_of_a_round_takes_part(nodes, tmp_path):
    nodes.grow(2)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(simulated, lambda context: Waits(context, tmp_path))
        until(lambda: len(pids(tmp_path)) == 2)
        nodes.grow(3)
        until(lambda: len(pids(tmp_path)) == 3)
        (tmp_path / "go").touch()
        assert running.result().parameters == simulated(Adds, "serial").parameters


def test_three_nodes_keep_the_laws_of_engines(nodes):
    nodes.grow(3)
    check_engine("ray")


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


def test_an_engine_that_is_closed_leaves_no_actor_behind_and_the_cluster_goes_on():
    engine = RayEngine(Program(Adds, fl.FedAvg(), seed=1, num_clients=3, config={}))
    task = Task(1, fl.Arrays.of([np.zeros(3)]), config={"server_round": 1})
    tally = engine.play([Ask(str(client), "fit", task) for client in range(3)], {})
    assert [receipt.verdict for receipt in tally.receipts] == ["done"] * 3
    engine.close()
    assert ray.is_initialized()
    until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources().get("CPU"))
    with pytest.raises(EngineError, match="the engine was closed"):
        engine.play([Ask("0", "fit", task)], {})
