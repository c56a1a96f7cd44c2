"""What users see of clients, errors and progress is what they see of the pool; sums that are lost with a node."""

import os
import sys
import time

import numpy as np
import pytest

import umbel as fl
from umbel.errors import EngineError
from umbel.message import Ask, Task
from umbel.runtimes.parcel import task_tree
from umbel.runtimes.pool.seed import dump
from umbel.runtimes.program import Program
from umbel.runtimes.tally import Tally
from umbel.wire import pack

pytest.importorskip("ray", reason="ray is not installed")
import ray

from umbel.runtimes.ray.fleet import Fleet
from umbel.runtimes.ray.resident import Call, Errand
from umbel.runtimes.ray.sums import Part, gathered

pytestmark = pytest.mark.usefixtures("joined")


class Adds(fl.NumPyClient):
    def __init__(self, context):
        self.context = context

    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 10, {}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 1, {}


def simulated(client_fn, engine="ray", clients=6, strategy=None, cluster=None, observers=(), **changes):
    return fl.simulate(
        client_fn,
        clients,
        strategy=strategy,
        config=fl.ServerConfig(**{"num_rounds": 1, "seed": 1, **changes}),
        initial_parameters=[np.zeros(3)],
        engine=engine,
        cluster=cluster,
        workers=1,
        progress=False,
        observers=observers,
    )


def test_failures_warnings_and_time_outs_are_told_as_by_the_pool():
    class Moody(Adds):
        def fit(self, parameters, config):
            match self.context.partition_id:
                case 0:
                    raise OSError("no disk")
                case 1:
                    return [np.full(3, np.nan)], 1, {}
                case 2:
                    return [parameters[0]], 1, {"size": "large"}
                case 3:
                    time.sleep(60)
            return super().fit(parameters, config)

    on_ray, pooled = (simulated(Moody, engine, client_timeout=1.0) for engine in ("ray", "pool"))
    assert on_ray.parameters == pooled.parameters
    assert on_ray.rounds[0].failures == pooled.rounds[0].failures
    assert len(on_ray.rounds[0].failures) == 3
    assert on_ray.warnings == pooled.warnings
    assert "large" in on_ray.warnings[0]


def test_a_client_that_cannot_be_had_at_all_ends_the_run():
    class Opaque(Adds):
        def fit(self, parameters, config):
            raise fl.NotSupported("such clients cannot be had")

    with pytest.raises(fl.NotSupported, match="such clients cannot be had"):
        simulated(Opaque)


class Homesick:
    """A function that can be read in the process that wrote it alone."""

    def __init__(self):
        self.home = os.getpid()

    def __call__(self, context):
        return Adds(context)

    def __setstate__(self, state):
        if state["home"] != os.getpid():
            raise LookupError("not the machine that I know")


def test_an_app_that_nodes_cannot_load_ends_the_run_with_the_reason():
    with pytest.raises(EngineError, match=r"no node of the cluster can play; node .*: LookupError: not the machine"):
        simulated(Homesick())


def test_nodes_without_what_is_asked_for_are_named():
    with pytest.raises(EngineError, match=r"no node of the cluster has 1 processor\(s\) and 64 GPUs"):
        simulated(Adds, cluster=fl.Cluster(gpus_per_node=64))


def test_a_fraction_of_a_gpu_is_reserved_where_there_is_one(nodes):
    class Sees(Adds):
        def fit(self, parameters, config):
            return [parameters[0]], 1, {"gpu": float(os.environ.get("CUDA_VISIBLE_DEVICES") == "0")}

    made = nodes.cluster.add_node(num_cpus=1, num_gpus=1)
    try:
        history = simulated(Sees, cluster=fl.Cluster(gpus_per_node=0.5))
    finally:
        nodes.cluster.remove_node(made)
    assert history.metrics["train_gpu"] == 1.0


def test_progress_is_told_while_a_call_is_played(tmp_path):
    told = []

    class Waits(Adds):
        """The last client waits until the others' turns were told."""

        def fit(self, parameters, config):
            while self.context.partition_id == 5 and not (tmp_path / "told").exists():
                time.sleep(0.01)
            return super().fit(parameters, config)

    def observe(event):
        if event["kind"] == "progress" and event["phase"] == "fit":
            told.append((event["done"], event["total"]))
            if event["done"] == 5:
                (tmp_path / "told").touch()

    simulated(Waits, observers=[observe])
    assert (5, 6) in told
    assert all(total == 6 for _, total in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_sums_that_are_lost_with_a_node_are_told_and_the_others_kept(nodes):
    nodes.grow(3)
    program = Program(Adds, fl.FedAvg(), seed=1, num_clients=3, config={})
    fleet = Fleet(fl.Cluster(), Errand(dump(program), sys.path, None), 1, 1)
    fleet.gather()
    for node in list(fleet.nodes.values()):
        fleet.settle(node)
    # Large enough to lie in the nodes' stores: Ray sends small results to the driver at once.
    task = Task(1, fl.Arrays.of([np.zeros(100_000)]), config={"server_round": 1})
    frame = ray.put(np.frombuffer(pack("task", task_tree(task)), np.uint8))
    parts = [played(node, frame, Ask(str(number), "fit", task)) for number, node in enumerate(fleet.nodes.values())]
    nodes.kill_one()
    tally, lost = gathered(program, parts, fleet.nodes)
    assert len(lost) == 1
    assert sorted(r.client for r in tally.receipts) == sorted(p.asks[0][0].client for p in parts if p is not lost[0])
    assert tally.accumulator is not None
    assert tally.accumulator.result()["delta"].count == 2
    assert (tally.accumulator.result()["delta"].total["0"] == 20.0).all()
    fleet.close()


def played(node, frame, ask):
    note, sums = node.actor.play.options(num_returns=2).remote(frame, Call.of([ask], {}))
    answer = ray.get(note)
    assert answer.summed
    return Part([(ask, 1.0)], Tally.restore(fl.Mean(), *answer.note), sums, node.id)
