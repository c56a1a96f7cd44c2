"""A real Ray cluster of several node processes on this machine; it starts in seconds, so all tests share one."""

import pytest

pytest.importorskip("ray", reason="ray is not installed")

import ray
from ray.cluster_utils import Cluster

# A node that is gone is noticed within seconds and not, as by default, within half a minute.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
    "object_manager_pull_timeout_ms": 1000,
}


class Nodes:
    """A cluster whose head has one processor, to which nodes are added and from which they are really removed."""

    def __init__(self):
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": HEALTH}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.others = []

    @property
    def address(self):
        return self.cluster.address

    def grow(self, count):
        """Have `count` nodes, the head among them."""
        new = [self.cluster.add_node(num_cpus=1, wait=False) for _ in range(count - 1 - len(self.others))]
        self.others += new
        self.cluster.wait_for_nodes(timeout=60)

    def kill_one(self):
        """End all processes of a node with SIGKILL, except those that notice it and end by themselves."""
        self.cluster.remove_node(self.others.pop(), allow_graceful=False)


@pytest.fixture(scope="session")
def nodes():
    made = Nodes()
    try:
        yield made
    finally:
        made.cluster.shutdown()


@pytest.fixture
def joined(nodes):
    """This process is part of the cluster, as after the user's own `ray.init`."""
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
