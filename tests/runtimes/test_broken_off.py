"""How a run ended is in its log, for who audits it, also where nothing of ours failed."""

import numpy as np
import pytest

import umbel as fl
from umbel.audit.key import key_beside
from umbel.audit.whole import looked
from umbel.errors import TooFewClients
from umbel.stores import SQLiteStore
from umbel.stores.link import signatures
from umbel.testing import Quadratics

TOY = Quadratics(clients=4)


class Gone(fl.NumPyClient):
    def fit(self, parameters, config):
        raise ValueError("no\nrows\x1b[2J")


def ran(store, client=TOY.client, **given):
    given = {"config": fl.ServerConfig(3, seed=1), "initial_parameters": {"w": np.zeros(4)}, **given}
    return fl.simulate(client, 4, store=store, engine="serial", progress=False, **given)


def broken(round, parameters, config):
    if round == 2:
        raise ZeroDivisionError("no\ntest data\x1b[2J")
    return 0.0, {}


def out_of(store):
    (run,) = store.runs()
    (ended,) = [event for event in store.events(run.id) if event["kind"] == "ended"]
    return run, ended["reason"]


@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_a_function_of_the_users_that_raises_ends_the_run_with_a_line_in_its_signed_log(tmp_path, checkpoint_every):
    store = SQLiteStore(tmp_path / "runs.db")
    config = fl.ServerConfig(3, seed=1, checkpoint_every=checkpoint_every)
    with pytest.raises(ZeroDivisionError):
        ran(store, evaluate_fn=broken, config=config)
    run, reason = out_of(store)
    assert run.status == "failed"
    assert reason == "failed: ZeroDivisionError: no test data\N{REPLACEMENT CHARACTER}[2J"
    key = key_beside(tmp_path)
    verdict = looked(run, store.log(run.id), check=signatures(key=key.public), trusts=True)
    assert verdict.problem is None
    whole = ran(store, resume=run.id, config=config, evaluate_fn=lambda *round: (0.0, {}))
    assert (whole.ended, len(whole.rounds)) == ("finished", 4)
    assert whole.parameters == ran(fl.MemoryStore(), config=config, evaluate_fn=lambda *round: (0.0, {})).parameters


def test_what_nobody_answers_is_one_line():
    store = fl.MemoryStore()
    with pytest.raises(TooFewClients):
        ran(store, lambda context: Gone())
    run, reason = out_of(store)
    assert run.status == "failed"
    assert reason.startswith("failed: round 1: ")
    assert reason.isprintable()
