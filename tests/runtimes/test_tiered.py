"""Tiered rounds on the simulated clock."""

from dataclasses import replace

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError
from umbel.runtimes import checkpoint
from umbel.stores import MemoryStore
from umbel.testing import Quadratics, WithHead

TAIL = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.5), dropout=0.1, jitter=fl.LogNormal(1.0, 0.2))


def run(coordinator=None, toy=None, system=TAIL, engine="serial", workers=None, strategy=None, **rest):
    toy = toy or Quadratics(clients=40)
    given = {key: rest.pop(key) for key in ("store", "resume", "evaluate_fn") if key in rest}
    settings = {"num_rounds": 12, "seed": 4, "fraction_fit": 0.2, "fraction_evaluate": 0.1, **rest}
    return fl.simulate(
        toy.client,
        toy.clients,
        strategy=strategy,
        config=fl.ServerConfig(**settings),
        system=system,
        coordinator=coordinator or fl.Tiered(),
        engine=engine,
        workers=workers,
        progress=False,
        **given,
    )


def story(history):
    return [replace(record, seconds=0.0) for record in history.rounds]


@pytest.mark.parametrize("strategy", [fl.FedAvg(server=fl.adam()), fl.FedProx(mu=0.1)], ids=repr)
def test_rounds_that_wait_for_everybody_are_fedavg_to_the_bit(strategy):
    toy = Quadratics(clients=10)
    system = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.5))
    tiered = run(fl.Tiered(waits_for=1.0), toy, system, strategy=strategy, fraction_fit=1.0)
    config = fl.ServerConfig(12, seed=4, fraction_evaluate=0.1)
    rounds = fl.simulate(toy.client, 10, strategy=strategy, config=config, engine="serial", progress=False)
    assert tiered.parameters == rounds.parameters
    assert all(record.staleness == 0 for record in tiered.rounds)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pool_of_any_size_tells_the_same_story_as_serial(workers):
    toy, strategy = WithHead(clients=30), fl.FedAvg(shared="backbone.*")
    serial = run(None, toy, strategy=strategy)
    pool = run(None, toy, strategy=strategy, engine="pool", workers=workers)
    assert pool.parameters == serial.parameters
    assert story(pool) == story(serial)
    assert max(record.staleness for record in serial.rounds) > 0


@pytest.mark.parametrize("every", [1, 4])
def test_a_resumed_run_ends_in_the_bits_of_the_undisturbed(every, tmp_path):
    toy, strategy = WithHead(clients=30), fl.FedAvg(shared="backbone.*", server=fl.adam())
    rest = {"toy": toy, "strategy": strategy, "checkpoint_every": every, "fraction_evaluate": 0.0}
    whole = run(num_rounds=20, **rest)
    run(num_rounds=8, store=tmp_path / "runs.db", **rest)
    resumed = run(num_rounds=20, store=tmp_path / "runs.db", resume="last", **rest)
    assert resumed.parameters == whole.parameters
    assert story(resumed) == story(whole)


def distance(number, parameters, config):
    return float(np.abs(parameters["w"]).max()), {}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_under_a_heavy_tail_a_target_is_reached_sooner_than_in_rounds(seed):
    toy = Quadratics(clients=200, heterogeneous=False, lr=0.05, epochs=1)
    times = []
    for coordinator in (fl.Tiered(), None):
        history = fl.simulate(
            toy.client,
            200,
            initial_parameters={"w": np.full(4, 8.0)},
            config=fl.ServerConfig(300, seed=seed, fraction_fit=0.1, fraction_evaluate=0.0, target=0.5),
            evaluate_fn=distance,
            system=TAIL,
            coordinator=coordinator,
            engine="serial",
            progress=False,
        )
        assert history.ended == "target"
        times.append(history.simulated_s)
    assert times[0] < times[1]


def test_what_is_known_of_clients_is_in_the_checkpoint_and_only_of_those_asked():
    store = MemoryStore()
    history = run(store=store, num_rounds=3)
    _, found = checkpoint.read(store.checkpoint(history.run, 3))
    known = {client for client, _, _ in found["known"]}
    assert 8 <= len(known) < 40
    assert all(seconds is None or seconds > 0 for _, seconds, _ in found["known"])


def test_updates_that_are_too_late_are_never_played():
    latest = max(record.staleness for record in run(fl.Tiered(waits_for=0.3), num_rounds=40).rounds)
    settings = fl.Tiered(waits_for=0.3, max_staleness=1)
    assert max(record.staleness for record in run(settings, num_rounds=40).rounds) <= 1 < latest


def test_another_share_is_another_run(tmp_path):
    run(store=tmp_path / "runs.db")
    with pytest.raises(ConfigError, match="not the run that was begun"):
        run(fl.Tiered(waits_for=0.7), store=tmp_path / "runs.db", resume="last")


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ({"system": None}, "Tiered takes updates as they come, and without time"),
        (
            {"strategy": fl.Scaffold()},
            "Tiered folds updates that began from older models, which Scaffold has no",
        ),
        ({"quorum": 0.5}, "waits_for says"),
    ],
)
def test_what_cannot_be_tiered_is_refused_before_the_run(rest, said):
    store = MemoryStore()
    with pytest.raises(ConfigError, match=said):
        run(**rest, store=store)
    assert store.runs() == []
