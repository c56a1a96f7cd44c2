"""`check_engine`: the laws that every engine keeps."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from umbel.clients import GradientClient, NumPyClient
from umbel.coordinators import ServerConfig
from umbel.message import Context
from umbel.runtimes.history import History
from umbel.runtimes.simulate import simulate
from umbel.strategies import FedAvg, Scaffold
from umbel.testing.expect import expect, same_bits
from umbel.testing.toys import Quadratics, WithHead


@final
class _Moody(NumPyClient):
    """Some raise, some return nonsense, the rest add their number; each counts its turns in its state."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def fit(self, parameters: Any, config: Any) -> Any:
        index = self.context.partition_id
        if index == 1:
            raise RuntimeError("no data today")
        if index == 2:
            return [np.full(3, np.nan)], 1, {}
        turns = self.context.state.get("turns", 0) + 1
        self.context.state["turns"] = turns
        return [parameters[0] + index + self.context.rng.random(3)], index, {"turns": turns}

    def evaluate(self, parameters: Any, config: Any) -> Any:
        return float(np.abs(parameters[0]).sum()), 1, {"turns": self.context.state.get("turns", 0)}


def _shuffling(context: Context) -> GradientClient:
    rng = np.random.default_rng(context.partition_id)
    x = rng.standard_normal((30, 4)).astype(np.float32)
    y = x @ np.array([1, -2, 3, 0.5], np.float32)

    def gradient(params: Any, xs: Any, ys: Any) -> tuple[float, Any]:
        error = xs @ params["w"] - ys
        return float((error**2).mean()), {"w": xs.T @ error / len(xs)}

    return GradientClient(gradient, {"w": np.zeros(4, np.float32)}, (x, y), batch_size=7, epochs=2)


def check_engine(engine: str, workers: int | None = None) -> None:
    """Run the laws: the same bits as `serial`, with failing clients, client state, shuffling and private arrays.

    Raises:
        AssertionError: names the law that is broken.
    """
    for what, client_fn, clients, strategy in (
        ("failing clients and state", _Moody, 9, FedAvg()),
        ("shuffled batches", _shuffling, 9, FedAvg()),
        ("control variates", Quadratics(clients=9).client, 9, Scaffold()),
        ("a private head", WithHead(clients=5).client, 5, FedAvg(shared="backbone.*")),
    ):
        initial = [np.zeros(3)] if client_fn is _Moody else None
        reference, other = (
            simulate(
                client_fn,
                clients,
                strategy=strategy,
                config=ServerConfig(num_rounds=3, fraction_fit=0.7, over_selection=0.3, seed=2),
                initial_parameters=initial,
                engine=name,
                workers=count,
                progress=False,
            )
            for name, count in (("serial", None), (engine, workers))
        )
        same_bits(reference.parameters, other.parameters, f"{what}: {engine} and serial")
        expect(_story(reference) == _story(other), f"{what}: {engine} and serial tell different histories")


def _story(history: History) -> list[Any]:
    return [(r.round, r.loss, dict(r.metrics), r.participants, r.failures) for r in history.rounds]
