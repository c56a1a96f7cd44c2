"""What cannot be trained again is refused before anything is in the store, and nothing is removed for it."""

import sqlite3

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError, NotSupported, StoreError
from umbel.stores import SQLiteStore

from .test_forget import START, TOY, config, forgotten, ran

OTHER = {"w": np.ones(4)}


def stands(store):
    """All that a refused command must leave as it is."""
    return [(run, store.log(run.id), store.checkpoints(run.id)) for run in store.runs()]


@pytest.mark.parametrize("method", ["exact", "approximate"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"config": config(seed=2)}, "has the seed 1, got 2; give that, or none"),
        ({"initial_parameters": OTHER}, "and initial_parameters are another; give what it had"),
        ({"initial_parameters": None}, "began with initial_parameters, and none are given"),
        ({"strategy": fl.FedAdam()}, "this is not the run that was begun"),
        ({"system": fl.SystemModel()}, "this is not the run that was begun"),
        ({"privacy": fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5)}, "had no privacy="),
        ({"luck": 1}, "does not take 'luck'"),
        ({"resume": "last"}, "does not take 'resume'"),
        ({"engine": "vmap", "block": 2}, "clients train one by one"),
        ({"engine": "hope"}, "engine must be one of"),
        ({"workers": 0}, "workers must be"),
        ({"count": 5}, "num_clients was 4 and is now 5"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_arguments_that_are_not_those_of_the_run_are_refused_and_nothing_stays(method, given, words):
    store = fl.MemoryStore()
    first = ran(store)
    before = stands(store)
    with pytest.raises(ConfigError, match=words):
        forgotten(store, first.run, "1", **{"method": method, **given})
    assert stands(store) == before


def test_a_first_model_that_a_client_was_asked_for_is_not_exchanged():
    store, given = fl.MemoryStore(), {"initial_parameters": None}
    first = ran(store, **given)
    with pytest.raises(ConfigError, match="which client 0 was asked for, and initial_parameters are another"):
        forgotten(store, first.run, "1", initial_parameters=OTHER)
    assert forgotten(store, first.run, "1", **given).guarantee == "exact"


def test_the_log_says_whose_the_first_model_was():
    store, given = fl.MemoryStore(), {"initial_parameters": None, "config": config(num_rounds=1)}
    asked, with_one = ran(store, **given), ran(store, config=config(num_rounds=1))
    judged = ran(store, evaluate_fn=lambda *_: (1.0, {}), **given)
    first = [store.log(history.run)[0] for history in (asked, with_one, judged)]
    assert [event["giver"] for event in first] == ["0", None, "0"]
    assert first[1]["model"] == fl.arrays.Arrays.of(START).digest
    # It is believed, and not what is given now.
    one = config(num_rounds=1)
    assert forgotten(store, judged.run, "0", method="remove", config=one).report["first_round"] == 0
    assert forgotten(store, with_one.run, "0", method="remove", **given).report["first_round"] != 0


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_the_only_client_is_not_forgotten_by_training_again(method):
    store = fl.MemoryStore()
    first = ran(store, count=1)
    before = stands(store)
    with pytest.raises(NotSupported, match="0 clients are left to train, and a round needs 1; method='remove'"):
        forgotten(store, first.run, "0", count=1, method=method)
    assert stands(store) == before
    assert forgotten(store, first.run, "0", count=1, method="remove").guarantee == "removed"


def test_nor_is_the_last_one_after_the_others():
    store, given = fl.MemoryStore(), {"config": config(fraction_fit=1.0)}
    first = ran(store, count=2, **given)
    forgotten(store, first.run, "0", count=2, **given)
    runs = len(store.runs())
    with pytest.raises(NotSupported, match="0 clients are left to train"):
        forgotten(store, first.run, "1", count=2, **given)
    assert len(store.runs()) == runs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"config": config(min_available_clients=4)}, "3 clients are left to train, and a round needs 4"),
        (
            {"config": config(fraction_fit=1.0), "strategy": fl.FedAvg(reducer=fl.Krum(f=1))},
            "without client 1: .* needs at least .* updates a round",
        ),
    ],
)
def test_a_run_whose_rounds_would_be_too_small_is_refused(given, words):
    store, count = fl.MemoryStore(), 4 if "strategy" not in given else fl.Krum(f=1).least_updates
    toy = fl.testing.Quadratics(clients=count)
    first = ran(store, toy.client, count, **given)
    before = stands(store)
    with pytest.raises(NotSupported, match=words):
        forgotten(store, first.run, "1", toy.client, count, **given)
    assert stands(store) == before


@pytest.mark.parametrize(("name", "value"), [("run", None), ("run", 7), ("client", 3), ("client", None)])
def test_ids_are_text(name, value):
    store = fl.MemoryStore()
    given = {"run": ran(store).run, "client": "1", name: value}
    with pytest.raises(ConfigError, match=f"{name} must be an id as text"):
        fl.forget(TOY.client, 4, store=store, config=config(), initial_parameters=START, **given)


@pytest.mark.parametrize("client", ["9", "01", "-1", "x", ""])
@pytest.mark.parametrize("method", ["exact", "approximate", "remove"])
def test_a_name_that_is_nobody_s_is_refused_with_every_method(client, method):
    store = fl.MemoryStore()
    first = ran(store)
    before = stands(store)
    with pytest.raises(ConfigError, match=f"there is no client '{client}'; the ids are '0' to '3'"):
        forgotten(store, first.run, client, method=method)
    assert stands(store) == before


def broken_off(tmp_path, **given):
    """A store in which a client's checkpoints were removed, and nothing more, as somebody read the file then."""
    store = SQLiteStore(tmp_path / "runs.db")
    first = ran(store, config=config(fraction_fit=1.0), **given)
    kept = store.checkpoints(first.run)
    store._rows("PRAGMA busy_timeout=0")
    reader = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM checkpoints").fetchall()
    with pytest.raises(StoreError, match="somebody reads"):
        forgotten(store, first.run, "2", method="remove")
    reader.close()
    return store, first.run, [number for number in kept if number > 0]


def test_what_a_first_try_removed_the_report_of_the_second_names(tmp_path):
    store, run, removed = broken_off(tmp_path)
    assert removed
    assert not [number for number in store.checkpoints(run) if number > 0]
    told = forgotten(store, run, "2", method="remove").report
    assert told["removed_checkpoints"] == removed
    # And that of a third.
    assert forgotten(store, run, "2", method="remove", keep=True).report["removed_checkpoints"] == removed
    store.close()


def test_what_was_to_be_removed_and_is_still_there_is_not_said_to_be_gone(tmp_path):
    from umbel.runtimes.forgetting import report

    store = SQLiteStore(tmp_path / "runs.db")
    first = ran(store, config=config(fraction_fit=1.0))
    kept = [number for number in store.checkpoints(first.run) if number > 0]
    # As far as a process gets that is killed before it removes anything.
    report.announce(store, first.run, "2", kept)
    told = forgotten(store, first.run, "2", method="remove", keep=True).report
    assert (told["removed_checkpoints"], told["kept_checkpoints"]) == ([], kept)
    store.close()


def test_a_run_of_which_a_client_was_half_forgotten_does_not_go_on(tmp_path):
    store, run, _ = broken_off(tmp_path)
    with pytest.raises(ConfigError, match=r"client 2 .* was to be forgotten, which broke off"):
        ran(store, resume=run, config=config(fraction_fit=1.0, num_rounds=8))
    store.close()


def test_a_key_that_cannot_be_read_is_found_before_anything_is_removed(tmp_path):
    pytest.importorskip("cryptography")
    store = SQLiteStore(tmp_path / "runs.db")
    first = ran(store)
    before = stands(store)
    (tmp_path / "log.key").write_text("no key at all")
    with pytest.raises(ConfigError, match="is no Ed25519 key"):
        forgotten(store, first.run, "1", method="remove")
    assert stands(store) == before
    store.close()
