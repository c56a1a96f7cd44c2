"""Sampling by attributes: only clients for which the run's condition holds are there to be asked."""

from dataclasses import replace

import numpy as np
import pytest
from tests.deployed.conftest import Federation

import umbel as fl
from umbel.errors import ConfigError, LinkError, TooFewClients
from umbel.runtimes.server.about import about_in
from umbel.runtimes.server.facts import facts_of
from umbel.stores import MemoryStore
from umbel.testing import Quadratics

from .site import Site, asked

TOY = Quadratics(clients=6)
EU = {"region": "eu"}


def by_number(client):
    return {"region": "eu" if int(client) % 2 else "us", "gpu": True}


def config(**more):
    return fl.ServerConfig(num_rounds=3, seed=2, **more)


def simulated(where, attributes=by_number, **more):
    given = config(where=where, **more)
    return fl.simulate(TOY.client, 6, config=given, attributes=attributes, engine="serial", progress=False)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("where", ["gpu", "gpu and region in ('eu', 'us')", "", "numpy_version > '1' and name != '6'"])
def test_a_condition_that_holds_for_all_changes_nothing_to_the_bit(where, fraction):
    plain = fl.simulate(TOY.client, 6, config=config(fraction_fit=fraction), engine="serial", progress=False)
    found = simulated(where, fraction_fit=fraction)
    assert found.parameters == plain.parameters
    assert [r.loss for r in found.rounds] == [r.loss for r in plain.rounds]


def test_only_those_that_match_are_trained_on():
    store = MemoryStore()
    given = config(where="region == 'eu'")
    fl.simulate(
        TOY.client, 6, config=given, attributes=by_number, store=store, name="eu", engine="serial", progress=False
    )
    [run] = store.runs()
    assert asked(store.events(run.id)) == [["1", "3", "5"]] * 3
    assert run.plan["config"]["where"] == "region == 'eu'"
    assert [event["matching"] for event in store.events(run.id) if "matching" in event] == [3] * 3


def test_the_first_model_is_one_of_a_client_that_matches():
    class Starts(fl.NumPyClient):
        def __init__(self, number):
            self.number = number

        def get_parameters(self):
            return [np.full(1, self.number)]

        def fit(self, parameters, config):
            return parameters, 1, {}

    def client_fn(context):
        return Starts(float(context.partition_id))

    given = fl.ServerConfig(num_rounds=0, where="region == 'eu'")
    found = fl.simulate(client_fn, 4, config=given, attributes=by_number, engine="serial", progress=False)
    assert found.parameters["0"].tolist() == [1.0]


def test_a_simulation_whose_clients_say_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"simulated clients say nothing; give attributes=lambda client_id"):
        simulated("gpu", attributes=None)


def test_attributes_that_are_none_are_refused_with_the_client():
    with pytest.raises(ConfigError, match=r"attributes of client 2: .*the attribute 'gpu' is text"):
        simulated("gpu", attributes=lambda client: {"gpu": [] if client == "2" else True})
    with pytest.raises(ConfigError, match=r"attributes of client 0: .*KeyError"):
        simulated("gpu", attributes=lambda client: {}[client])


def test_where_nobody_matches_the_run_ends_with_the_condition():
    with pytest.raises(TooFewClients, match="0 clients match region == 'asia', min_available_clients is 1"):
        simulated("region == 'asia'")


def test_what_the_server_knows_is_not_for_a_node_to_say():
    about = about_in('{"versions": {"umbel": "0.1.0", "odd": "1"}, "attributes": {"gpu": true}}')
    facts = facts_of("h1", about, address="::ffff:10.0.0.1:80", federation=None)
    assert facts == {
        "gpu": True,
        "name": "h1",
        "federation": "default",
        "address_family": "ipv4",
        "umbel_version": "0.1.0",
    }
    families = {
        a: facts_of("h", about_in(""), address=a, federation="f").get("address_family") for a in ("[::1]:5", "memory")
    }
    assert families == {"[::1]:5": "ipv6", "memory": None}


def test_a_node_whose_attributes_change_when_it_comes_back_is_moved_in_and_out():
    site = Site(TOY.client, where="region == 'eu'", num_rounds=1000, min_available_clients=2)

    async def story():
        for name in ("0", "1"):
            site.node(name, EU)
        moving = site.node("2", {"region": "us"})
        await site.until(lambda: len(site.rounds) >= 3)
        assert set(map(tuple, site.rounds)) == {("0", "1")}
        moving.cancel()
        moving = site.node("2", EU)
        await site.until(lambda: len(site.rounds[-1]) == 3)
        moving.cancel()
        moving = site.node("2", {"region": "us"})
        await site.until(lambda: "2" in site.desk.nodes and site.rounds[-1] == ["0", "1"])
        before = len(site.rounds)
        await site.until(lambda: len(site.rounds) >= before + 3)
        assert set(map(tuple, site.rounds[before:])) == {("0", "1")}

    site.play(story)


def test_a_connection_that_takes_the_place_of_another_moves_the_node_too():
    site = Site(TOY.client, where="region == 'eu'", num_rounds=1000, min_available_clients=2)

    async def story():
        lives = [site.node(name, EU) for name in ("0", "1", "2")]
        await site.until(lambda: site.rounds and len(site.rounds[-1]) == 3)
        site.node("2", {"region": "us"})
        await site.until(lambda: site.desk.nodes["2"].about.attributes == {"region": "us"})
        lives[2].cancel()
        await site.until(lambda: site.rounds[-1] == ["0", "1"])
        assert site.conduct.nodes.names == ("0", "1")

    site.play(story)


def test_those_that_match_are_counted_while_the_run_waits():
    site = Site(TOY.client, where="region == 'eu'", num_rounds=1, min_available_clients=2)

    async def story():
        site.node("0", EU)
        other = site.node("1", {"region": "us"})
        site.node("2", {})
        await site.until(lambda: len(site.desk.nodes) == 3 and site.conduct.nodes.size)
        assert site.conduct.waits_for == "waiting for nodes: 1 of 2 match region == 'eu' (3 connected)"
        assert site.conduct.leader.plan_for(site.desk.nodes["2"]) is None
        assert site.conduct.leader.plan_for(site.desk.nodes["0"])["where"] == "region == 'eu'"
        other.cancel()
        site.node("1", EU, boot=b"1" * 16)
        await site.until(lambda: site.rounds)
        assert site.rounds == [["0", "1"]]

    site.play(story)


def test_a_node_with_attributes_that_are_none_is_told_so():
    site = Site(TOY.client, where="region == 'eu'", num_rounds=1, min_available_clients=1)

    async def story():
        site.node("0", {"region": ["eu"]})
        await site.until(lambda: any("the attribute 'region' is text" in text for text in site.said))
        assert not site.desk.nodes

    site.play(story)


def test_over_sockets_those_that_match_give_the_bits_of_their_simulation(federation_of):
    toy = Quadratics(clients=4, dtype="float32")
    attributes = {str(n): {"gpu": n != 2, "memory_gb": n} for n in range(4)}
    given = config(where="gpu and memory_gb >= 1", min_available_clients=2)
    alone = fl.simulate(toy.client, 4, config=given, attributes=attributes.__getitem__, engine="serial", progress=False)
    found = federation_of(attributes, toy.client, config=given)
    assert found.parameters == alone.parameters
    assert [r.participants for r in found.rounds] == [2] * 3
    every = fl.simulate(toy.client, 4, config=replace(given, where=None), engine="serial", progress=False)
    assert every.parameters != alone.parameters


@pytest.fixture
def federation_of():
    def run(attributes, client_fn, **server):
        def each(name):
            return {"attributes": attributes[name]}

        return Federation(each).run(list(attributes), client_fn, **server)

    return run


def test_a_script_client_with_a_bad_attribute_does_not_start():
    with pytest.raises(ConfigError, match="is the server's to know"):
        fl.client.start_client("127.0.0.1:1", client_fn=TOY.client, attributes={"name": "x"}, give_up_s=0.0)
    with pytest.raises(LinkError):
        fl.client.start_client("127.0.0.1:1", client_fn=TOY.client, attributes=EU, give_up_s=0.0, progress=False)
