"""Devices that come to an open round: seated as long as there are seats, or dismissed."""

import numpy as np

import umbel as fl
from umbel.arrays import Arrays
from umbel.coordinators import Rounds
from umbel.message import Ask
from umbel.runtimes.mail import Answer
from umbel.runtimes.server.about import About
from umbel.runtimes.server.cohort import CohortPlayers
from umbel.runtimes.server.desk import Desk, Node
from umbel.runtimes.server.events import Deliver, Dismiss, Joined
from umbel.runtimes.server.lead import Leader
from umbel.runtimes.server.nodes import Nodes
from umbel.stores import MemoryStore, RunInfo


def playing(*there):
    """A round with two seats, which finds these devices there: its players and its steps."""
    nodes = Nodes(names=there)
    config = fl.ServerConfig(arrivals=True, min_fit_clients=2, round_timeout=60.0, fraction_evaluate=0.0, seed=1)
    coordinator = Rounds(config, nodes, timed=True)
    strategy, store = fl.FedAvg(), MemoryStore()
    store.create(RunInfo("run", "seats", 0.0, "running", {}))
    players = CohortPlayers("run", strategy, nodes, store, seed=1, clock=lambda: 0.0)
    task = strategy.task(strategy.init(Arrays.of({"w": np.zeros(2)})), 1)
    steps = players.fit(coordinator.begin(0.0), task, coordinator)
    next(steps)
    return players, steps


def told(players, kind):
    return [command.client for command in players.outbox if isinstance(command, kind)]


def test_devices_are_seated_in_order_and_the_rest_dismissed():
    players, steps = playing()
    assert players.seats == 2
    steps.send([Joined("a"), Joined("b"), Joined("c")])
    assert (told(players, Deliver), told(players, Dismiss), players.seats) == (["a", "b"], ["c"], 0)


def test_of_those_that_came_before_the_round_was_open_the_rest_is_dismissed():
    players, _ = playing("a", "b", "c")
    assert sorted(told(players, Deliver) + told(players, Dismiss)) == ["a", "b", "c"]
    assert len(told(players, Dismiss)) == 1


def test_a_device_that_comes_back_is_asked_the_same_again():
    players, steps = playing("a")
    steps.send([Joined("a")])
    assert told(players, Deliver) == ["a", "a"]
    assert players.awaits("a")


def leading():
    nodes, desk = Nodes(), Desk("server", say=lambda text: None)
    return Leader("run", {}, desk, nodes, offload=lambda work: work(), arrivals_per_s=1.0), nodes


def device(leader, name):
    """A device that has said what its client can."""
    node = Node(name, b"", About(), "", None, 0.0, checks_in=True)
    leader.is_ready(node, Answer("run", 0, 0, "properties", name, facts={"capabilities": ["fit"], "schema": None}))
    return node


def test_a_run_that_has_not_begun_invites_one_device_until_that_leaves():
    leader, _ = leading()
    assert not leader.invites("a", willing=False)
    assert leader.invites("a", willing=True)
    assert not leader.invites("b", willing=True)
    leader.left(device(leader, "a"))
    assert leader.invites("b", willing=True)


def test_a_run_that_takes_in_nobody_invites_nobody():
    leader = Leader("run", {}, Desk("server", say=lambda text: None), Nodes(), offload=lambda work: work())
    assert not leader.invites("a", willing=True)


def test_a_device_can_be_asked_once_each_time_that_it_comes():
    leader, nodes = leading()
    node = device(leader, "a")
    players, _ = playing("a")
    delivered = next(command for command in players.outbox if isinstance(command, Deliver))
    query = Deliver("a", Ask("a", "query", delivered.ask.task), [], {})
    leader.heard(query)
    assert nodes.names == ("a",)  # a question about its model is not a turn
    leader.heard(delivered)
    assert nodes.names == ()
    leader.left(node)
    device(leader, "a")
    assert nodes.names == ("a",)
