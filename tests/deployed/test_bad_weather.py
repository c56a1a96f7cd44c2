"""What goes wrong on real machines: full disks, clients that raise, updates that must not be found afterwards."""

import os

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes.node.disk import DiskKeeper
from umbel.runtimes.node.keep import KeptTurn
from umbel.stores import SQLiteStore


class Adds(fl.NumPyClient):
    """Adds a number that is easy to find again."""

    def __init__(self, marker):
        self.marker = marker

    def get_parameters(self):
        return [np.zeros(64)]

    def fit(self, parameters, config):
        return [parameters[0] + self.marker], 10, {"mine": self.marker}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 10, {}


MARKERS = {"a": 1.2345678901234567, "b": 7.654321098765432}


def by_name(context):
    return Adds(MARKERS[context.client])


def test_no_single_update_and_no_clients_metric_is_found_at_the_server(federation, tmp_path, capfd):
    before = set(os.listdir("/tmp"))
    history = federation.run(
        ["a", "b"], by_name, config=fl.ServerConfig(num_rounds=3, seed=1), store=tmp_path / "runs.db"
    )
    mean = sum(MARKERS.values()) / 2
    assert np.allclose(history.parameters["0"], 3 * mean)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    out = "".join(capfd.readouterr())
    left = [name for name in set(os.listdir("/tmp")) - before if "umbel" in name]
    assert np.float64(mean).tobytes() * 3 in kept or np.float64(3 * mean).tobytes() * 3 in kept  # the search works
    for marker in MARKERS.values():
        assert np.float64(marker).tobytes() not in kept
        assert repr(marker) not in out
        assert repr(marker).encode() not in kept
    assert not left


class Fails(Adds):
    def fit(self, parameters, config):
        raise ValueError("the scanner is out of paper")


def test_a_client_that_raises_is_named_in_one_sentence_and_the_round_goes_on(federation):
    history = federation.run(
        ["a", "b"],
        lambda context: Fails(0.0) if context.client == "b" else Adds(1.0),
        config=fl.ServerConfig(num_rounds=2, seed=1),
    )
    assert [record.participants for record in history.rounds] == [1, 1]
    [failure] = [f for f in history.rounds[0].failures if f.client == "b"]
    assert failure.reason.startswith("ValueError: the scanner is out of paper (in fit, test_bad_weather.py line ")
    assert history.parameters["0"].tolist() == [2.0] * 64


class Wrong(Adds):
    def fit(self, parameters, config):
        return [np.full(64, np.nan)], 10, {}


def test_nan_never_enters_a_sum(federation):
    history = federation.run(
        ["a", "b"],
        lambda context: Wrong(0.0) if context.client == "b" else Adds(1.0),
        config=fl.ServerConfig(num_rounds=1, seed=1),
    )
    assert "NaN" in history.rounds[0].failures[0].reason
    assert history.parameters["0"].tolist() == [1.0] * 64


def test_too_few_answers_end_the_run_with_a_typed_error_and_the_clients_hear_of_it(federation):
    with pytest.raises(fl.TooFewClients, match="the scanner is out of paper"):
        federation.run(["a", "b"], lambda context: Fails(0.0), config=fl.ServerConfig(num_rounds=1, seed=1))


def test_a_deployed_run_resumes_where_it_was(federation, tmp_path):
    store = tmp_path / "runs.db"
    config = fl.ServerConfig(num_rounds=2, seed=1)
    federation.run(["a", "b"], by_name, config=config, store=store)
    longer = fl.ServerConfig(num_rounds=5, seed=1)
    again = federation.run(["a", "b"], by_name, config=longer, store=store, resume="last")
    whole = federation.run(["a", "b"], by_name, config=longer, store=tmp_path / "other.db")
    assert again.parameters == whole.parameters
    assert [record.round for record in again.rounds] == [1, 2, 3, 4, 5]
    assert len(SQLiteStore(store).runs()) == 1


def test_a_full_disk_at_the_node_makes_its_answer_fail_and_nothing_else(tmp_path):
    keeper = DiskKeeper(tmp_path / "node.db")
    pages = keeper._file.db.execute("PRAGMA page_count").fetchone()[0]
    keeper._file.db.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(fl.StoreError, match="no room left"):
        keeper.keep(KeptTurn("run", 1, 0, b"x" * 100_000, [b"y" * 100_000], "about"))
    assert keeper.state("run", (1, 0)) is None
    keeper.close()


class Paints(Adds):
    def fit(self, parameters, config):
        raise ValueError("\x1b[2Jall is well\x9b1m")


def test_what_a_client_says_cannot_move_the_operators_cursor(federation):
    history = federation.run(
        ["a", "b"],
        lambda context: Paints(0.0) if context.client == "b" else Adds(1.0),
        config=fl.ServerConfig(num_rounds=1, seed=1),
    )
    [failure] = [f for f in history.rounds[0].failures if f.client == "b"]
    assert failure.reason.startswith("ValueError: \N{REPLACEMENT CHARACTER}[2Jall is well")
    assert failure.reason.isprintable()
