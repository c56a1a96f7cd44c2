"""Guided cohorts of clients that train in blocks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import umbel as fl  # noqa: E402
from umbel.coordinators import Experience  # noqa: E402
from umbel.runtimes import checkpoint  # noqa: E402
from umbel.stores import MemoryStore  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((400, 5)).astype(np.float32)
Y = X[:, :3].argmax(1)
PARTS = [np.arange(10 * number, 10 * number + 10) for number in range(40)]


def learned(engine):
    torch.manual_seed(0)
    clients = fl.TorchClients(
        torch.nn.Linear(5, 3), torch.nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, lr=0.1), (X, Y), PARTS
    )
    store = MemoryStore()
    fl.simulate(
        clients,
        40,
        config=fl.ServerConfig(3, seed=1, fraction_fit=0.5, selector=fl.PowerOfChoice(candidates=30)),
        store=store,
        engine=engine,
        workers=1,
        progress=False,
    )
    [run] = store.runs()
    known = Experience.of(checkpoint.latest(store, run.id)[2]["selection"])
    return {client: seen.loss for client, seen in known.clients.items()}


def test_losses_are_heard_of_clients_in_blocks():
    blocks, loop = learned("vmap"), learned("serial")
    assert len(blocks) >= 30
    assert blocks == pytest.approx(loop, rel=1e-4)
