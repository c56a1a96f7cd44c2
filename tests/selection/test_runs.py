"""Runs whose cohorts are guided: the same on any engine, after a kill, on nodes; what is learned goes nowhere else."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from tests.deployed.conftest import Federation
from tests.server.site import Site

import umbel as fl
from umbel.coordinators import Experience
from umbel.data import FashionMNIST, fashion_mnist
from umbel.data.fashion import DEBIAN_FOLDER
from umbel.errors import ConfigError
from umbel.runtimes import checkpoint
from umbel.stores import MemoryStore, SQLiteStore
from umbel.testing import Quadratics

TOY = Quadratics(clients=20, examples=tuple(range(1, 21)))
HEAVY = fl.SystemModel(
    seconds_per_unit=fl.LogNormal(1.0, 1.5), availability=fl.OnOff(60.0, 30.0), dropout=0.2, watts=1.0
)
SELECTORS = [
    fl.Weighted(lambda client: 1 + int(client)),
    fl.PowerOfChoice(candidates=9),
    fl.PowerOfChoice(candidates=9, among=fl.Weighted(lambda client: 1 + int(client)), remembers=5),
    fl.Balanced(lambda client: int(client) % 3),
    fl.Oort(pace_window=2),
    fl.Oort(most_picks=2, explore=fl.Weighted(lambda client: 1 + int(client))),
]
NAMES = [f"{type(selector).__name__}{number}" for number, selector in enumerate(SELECTORS)]


def run(selector, *, system=None, engine="serial", workers=None, store=None, resume=None, client=TOY.client, **config):
    given = {"num_rounds": 6, "fraction_fit": 0.3, "fraction_evaluate": 0.2, "seed": 4, "over_selection": 0.5, **config}
    return fl.simulate(
        client,
        20,
        config=fl.ServerConfig(**given, selector=selector),
        system=system,
        engine=engine,
        workers=workers,
        store=store,
        resume=resume,
        progress=False,
    )


def cohorts(store):
    [run] = store.runs()
    return [[client for client, _ in event["clients"]] for event in store.events(run.id) if "clients" in event]


def the_run(store):
    [run] = store.runs()
    return run.id


def learned(store):
    [run] = store.runs()
    return Experience.of(checkpoint.latest(store, run.id)[2]["selection"])


@pytest.mark.parametrize("system", [None, HEAVY], ids=["without time", "with time"])
@pytest.mark.parametrize("selector", SELECTORS, ids=NAMES)
def test_a_pool_draws_and_learns_what_serial_does(selector, system):
    stores = MemoryStore(), MemoryStore()
    serial = run(selector, system=system, store=stores[0])
    pool = run(selector, system=system, store=stores[1], engine="pool", workers=2)
    assert pool.parameters == serial.parameters
    assert cohorts(stores[1]) == cohorts(stores[0])
    assert checkpoint.latest(stores[1], the_run(stores[1]))[2] == checkpoint.latest(stores[0], the_run(stores[0]))[2]


@pytest.mark.parametrize("system", [None, HEAVY], ids=["without time", "with time"])
@pytest.mark.parametrize("selector", SELECTORS, ids=NAMES)
def test_a_resumed_run_draws_the_cohorts_of_an_undisturbed_one(selector, system, tmp_path):
    whole, parts = SQLiteStore(tmp_path / "whole"), SQLiteStore(tmp_path / "parts")
    undisturbed = run(selector, system=system, store=whole)
    run(selector, system=system, store=parts, num_rounds=3)
    resumed = run(selector, system=system, store=parts, resume="last")
    assert resumed.parameters == undisturbed.parameters
    assert cohorts(parts) == cohorts(whole)
    assert checkpoint.latest(parts, the_run(parts))[2] == checkpoint.latest(whole, the_run(whole))[2]
    whole.close()
    parts.close()


def test_uniform_is_what_there_was_to_the_bit():
    given = {"config": fl.ServerConfig(5, seed=4, fraction_fit=0.3), "engine": "serial", "progress": False}
    stores = MemoryStore(), MemoryStore()
    one = fl.simulate(TOY.client, 20, store=stores[0], **given)
    other = fl.simulate(
        TOY.client, 20, store=stores[1], **{**given, "config": replace(given["config"], selector=fl.Uniform())}
    )
    assert one.parameters == other.parameters
    [run] = stores[0].runs()
    assert "selection" not in checkpoint.latest(stores[0], run.id)[2]


def test_a_run_of_before_there_were_selectors_goes_on():
    store = MemoryStore()
    run(fl.Uniform(), store=store, num_rounds=2)
    [info] = store.runs()
    old = {**info.plan, "config": {k: v for k, v in info.plan["config"].items() if k != "selector"}}
    store.set_plan(info.id, old)
    run(fl.Uniform(), store=store, resume="last", num_rounds=3)
    store.set_plan(info.id, old)
    with pytest.raises(ConfigError, match=r"this is not the run that was begun: config\.selector was None"):
        run(fl.PowerOfChoice(candidates=9), store=store, resume="last", num_rounds=4)


def test_time_is_simulated_time():
    store = MemoryStore()
    run(fl.Oort(), system=fl.SystemModel(seconds_per_unit=lambda client: 1 + int(client)), store=store)
    assert all(seen.took_s == 1.0 + int(client) for client, seen in learned(store).clients.items())
    untimed = MemoryStore()
    run(fl.Oort(), store=untimed)
    assert all(seen.took_s is None for seen in learned(untimed).clients.values())


def test_a_client_whose_training_fails_is_known_as_one_that_took_part():
    class Broken(fl.NumPyClient):
        def __init__(self, number):
            self.number = number

        def fit(self, parameters, config):
            if self.number < 3:
                raise RuntimeError("no disk")
            return parameters, 1, {"loss": float(self.number)}

        def get_parameters(self):
            return [np.zeros(1)]

    store = MemoryStore()
    run(fl.PowerOfChoice(candidates=20), store=store, client=lambda context: Broken(context.partition_id), num_rounds=9)
    seen = learned(store).clients
    assert all(seen[str(n)].loss is None and seen[str(n)].picks >= 1 for n in range(3))
    assert all(seen[str(n)].loss == float(n) for n in range(3, 20))


# What is learned of a client goes into the checkpoint, and nowhere else.


class Marked(fl.NumPyClient):
    """A client whose loss can be found again among any bytes."""

    def __init__(self, number):
        self.loss = number + float(np.random.default_rng(number).uniform(0.1, 0.9))

    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {"loss": self.loss}

    def get_parameters(self):
        return [np.zeros(1)]


def marks(data):
    """Of which clients the loss is in these bytes, as text or as a number."""
    return {
        number
        for number in range(20)
        for loss in [Marked(number).loss]
        if repr(loss).encode() in data or struct.pack("<d", loss) in data or struct.pack("<f", loss) in data
    }


@pytest.mark.parametrize("selector", [fl.Uniform(), fl.PowerOfChoice(candidates=9, remembers=4), fl.Oort(remembers=4)])
def test_losses_of_single_clients_are_in_the_checkpoint_alone_and_of_few(selector, tmp_path, capsys):
    told, store = [], SQLiteStore(tmp_path / "runs.db")
    fl.simulate(
        lambda context: Marked(context.partition_id),
        20,
        config=fl.ServerConfig(4, seed=1, fraction_fit=0.3, selector=selector),
        store=store,
        engine="serial",
        progress=True,
        observers=[lambda event: told.append(json.dumps(event))],
    )
    [info] = store.runs()
    logged = json.dumps(store.events(info.id)) + json.dumps(info.plan) + "".join(told) + "".join(capsys.readouterr())
    states = [checkpoint.read(store.checkpoint(info.id, number))[1] for number in store.checkpoints(info.id)]
    kept = [marks(state.get("selection", {}).get("seen", b"")) for state in states]
    store.close()
    assert not marks(logged.encode())
    most = 0 if selector == fl.Uniform() else 4
    assert max(map(len, kept)) == most


# On nodes


def test_nodes_are_told_that_a_selector_keeps_losses_and_owners_may_refuse():
    for selector, kept in ((fl.Uniform(), False), (fl.Balanced(lambda name: name), False), (fl.Oort(), True)):
        site = Site(TOY.client, num_rounds=1, min_available_clients=1, selector=selector)

        async def story(site=site, kept=kept):
            site.node("0")
            await site.until(lambda: site.rounds)
            assert site.conduct.leader.plan_for(site.desk.nodes["0"])["per_client_metrics"] is kept

        site.play(story)


def test_on_nodes_the_losses_and_seconds_of_answers_are_learned():
    site = Site(
        lambda context: Marked(context.partition_id),
        num_rounds=5,
        min_available_clients=6,
        fraction_fit=0.5,
        selector=fl.PowerOfChoice(candidates=6),
    )

    async def story():
        for number in range(6):
            site.node(str(number))
        await site.running

    site.play(story)
    known = learned(site.store).clients
    assert set(known) == set("012345")
    assert all(known[str(n)].loss == Marked(n).loss and (known[str(n)].took_s or 0) > 0 for n in range(6))
    # In two rounds everybody was asked; then those come whose loss is highest.
    assert sorted(site.rounds[0] + site.rounds[1]) == list("012345")
    assert site.rounds[2:] == [["3", "4", "5"]] * 3


@pytest.mark.parametrize("selector", [SELECTORS[0], SELECTORS[3]], ids=["Weighted", "Balanced"])
def test_over_sockets_cohorts_have_the_bits_of_their_simulation(selector):
    toy = Quadratics(clients=5, dtype="float32")
    config = fl.ServerConfig(4, seed=2, fraction_fit=0.6, min_available_clients=5, selector=selector)
    alone = fl.simulate(toy.client, 5, config=config, engine="serial", progress=False)
    found = Federation(lambda name: {}).run([str(n) for n in range(5)], toy.client, config=config)
    assert found.parameters == alone.parameters
    uniform = fl.simulate(toy.client, 5, config=replace(config, selector=fl.Uniform()), engine="serial", progress=False)
    assert uniform.parameters != alone.parameters


# Why anybody would


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_where_few_hold_the_rare_classes_guided_cohorts_need_fewer_rounds():
    """Fashion-MNIST: 10 of 50 clients hold all pictures of five classes; the loss is that of the balanced test set."""
    world = Rare(fashion_mnist(), clients=50, rare=10, each=50)
    for seed in (1, 2, 3):
        uniform, power, oort, balanced = (
            world.rounds(selector, seed)
            for selector in (
                fl.Uniform(),
                fl.PowerOfChoice(candidates=10),
                fl.Oort(),
                fl.Balanced(lambda client: int(client) < 40),
            )
        )
        assert max(power, oort, balanced) < uniform


class Rare:
    """Softmax regression on pictures of 14 x 14; the last clients hold classes 5 to 9, the others 0 to 4."""

    def __init__(self, data: FashionMNIST, *, clients, rare, each):
        self.train = small(data.train_images[:6000]), data.train_labels[:6000].astype(int)
        self.test = small(data.test_images[:2000]), data.test_labels[:2000].astype(int)
        rng, labels = np.random.default_rng(0), self.train[1]
        low, high = rng.permutation(np.flatnonzero(labels < 5)), rng.permutation(np.flatnonzero(labels >= 5))
        rows = [low[n * each :][:each] for n in range(clients - rare)] + [high[n * each :][:each] for n in range(rare)]
        self.parts = [(self.train[0][some], labels[some]) for some in rows]

    def client(self, context):
        start = {"w": np.zeros((197, 10), np.float32)}
        part = self.parts[context.partition_id]
        return fl.GradientClient(softmax_loss, start, part, lr=0.05, batch_size=20, epochs=2)

    def rounds(self, selector, seed, target=1.2):
        config = fl.ServerConfig(
            150, seed=seed, fraction_fit=0.1, fraction_evaluate=0.0, selector=selector, target=target
        )
        history = fl.simulate(
            self.client,
            len(self.parts),
            config=config,
            evaluate_fn=lambda number, parameters, config: (softmax_loss(parameters, *self.test)[0], {}),
            engine="serial",
            progress=False,
        )
        assert history.ended == "target"
        return len(history.rounds) - 1


def small(images):
    pooled = images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(len(images), -1) / 255
    return np.hstack([pooled, np.ones((len(images), 1))]).astype(np.float32)


def softmax_loss(params, x, y):
    z = x @ params["w"]
    chances = np.exp(z - z.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    loss = -np.log(chances[np.arange(len(y)), y] + 1e-12).mean()
    chances[np.arange(len(y)), y] -= 1
    return float(loss), {"w": x.T @ chances / len(y)}


@pytest.mark.parametrize("coordinator", [None, fl.Buffered(concurrency=2, buffer_size=1)], ids=["rounds", "buffered"])
@pytest.mark.parametrize("weights", [{"0": 1, "1": 1}, {"0": 0}], ids=["away at first", "nobody"])
def test_time_passes_until_somebody_is_there_whom_the_selector_draws(coordinator, weights):
    toy = Quadratics(clients=20)

    def go():
        return fl.simulate(
            toy.client,
            20,
            config=fl.ServerConfig(3, seed=1, fraction_evaluate=0.0, selector=fl.Weighted(weights)),
            system=fl.SystemModel(availability=fl.OnOff(on_s=3.0, off_s=90.0), seconds_per_unit=0.1),
            coordinator=coordinator,
            initial_parameters={"w": np.zeros(toy.dim)},
            engine="serial",
            progress=False,
        )

    if not any(weights.values()):
        with pytest.raises(fl.TooFewClients):
            go()
        return
    history = go()
    assert [record.participants for record in history.rounds] == [1, 1, 1]
    assert history.rounds[0].simulated_s > 1.0
