"""Privacy of single examples: clients clip each one's gradient, the server adds noise to the sum of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.privacy.regression import data, gradient

import umbel as fl
from umbel.errors import ConfigError, NotSupported

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")


class Closed(fl.NumPyClient):
    def fit(self, parameters: Any, config: Any) -> Any:
        return parameters, 1, {}


def client(context: Any) -> Any:
    return fl.GradientClient(gradient, {"w": np.zeros(5)}, data(context.partition_id))


def run(noise: float, clip: float, coordinator: Any = None, **changed: Any) -> fl.History:
    more = {"expected_examples": 120, "sampling": "every", **changed.pop("plan", {})}
    plan = fl.PrivacyPlan(unit="example", clip=clip, noise_multiplier=noise, delta=1e-4, **more)  # type: ignore[arg-type]
    arguments = {"strategy": fl.FedSGD(server=fl.sgd(1.0)), "initial_parameters": {"w": np.zeros(5)}, **changed}
    return fl.simulate(
        arguments.pop("client", client),
        4,
        config=fl.ServerConfig(1, fraction_evaluate=0.0, seed=1),
        privacy=plan,
        coordinator=coordinator,
        engine="serial",
        progress=False,
        **arguments,
    )


def by_hand(clip: float) -> Any:
    total = np.zeros(5)
    for number in range(4):
        for row, label in zip(*data(number), strict=True):
            _, grads = gradient({"w": np.zeros(5)}, row[None], label[None])
            total -= grads["w"] * min(1.0, clip / np.linalg.norm(grads["w"]))
    return total / 120


@pytest.mark.parametrize("coordinator", [None, fl.Secure()], ids=["plain", "secure"])
def test_each_examples_gradient_is_clipped(coordinator: Any) -> None:
    found = run(1e-9, 3.0, coordinator).parameters["w"]
    np.testing.assert_allclose(found, by_hand(3.0), atol=3.0 * 2**-14)
    assert not np.allclose(by_hand(3.0), by_hand(1e9), atol=0.1)


@pytest.mark.parametrize("clip", [0.3, 1.0, 1.9])
def test_the_noise_is_that_of_one_example(clip: float) -> None:
    def still(context: Any) -> Any:
        return fl.GradientClient(lambda p, x: (0.0, {"w": np.zeros(40_000)}), {"w": np.zeros(40_000)}, np.ones((3, 1)))

    for coordinator in (None, fl.Secure()):
        found = run(2.0, clip, coordinator, client=still, initial_parameters={"w": np.zeros(40_000)})
        assert np.std(found.parameters["w"]) == pytest.approx(2.0 * clip / 120, rel=0.02)


def test_one_example_moves_a_secure_sum_by_no_more_than_the_clip() -> None:
    """The sum without one example differs by that example's clipped gradient, to the bit of the grid."""

    def without(context: Any) -> Any:
        x, y = data(context.partition_id)
        return fl.GradientClient(gradient, {"w": np.zeros(5)}, (x[1:], y[1:]) if context.partition_id == 2 else (x, y))

    whole, less = (run(1e-12, 0.7, fl.Secure(), client=one).parameters["w"] for one in (client, without))
    assert 0.1 < np.linalg.norm(120 * (whole - less)) <= 0.7 * (1 + 1e-9)


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e300])
def test_one_example_that_is_broken_takes_no_other_with_it(odd: float) -> None:
    def broken(context: Any) -> Any:
        x, y = data(context.partition_id)
        if context.partition_id == 2:
            x[0] = odd
        return fl.GradientClient(gradient, {"w": np.zeros(5)}, (x, y))

    with np.errstate(all="ignore"):
        whole, less = (run(1e-12, 0.7, client=one).parameters["w"] for one in (client, broken))
    assert np.linalg.norm(120 * (whole - less)) <= 2 * 0.7


@pytest.mark.parametrize("expected", [29, 30, 31])
def test_one_example_more_than_expected_moves_the_sum_by_no_more_than_the_clip(expected: int) -> None:
    """At the edge, too: what a client has beyond it is cut at a box."""

    def fewer(context: Any) -> Any:
        x, y = data(context.partition_id, 31)
        return fl.GradientClient(gradient, {"w": np.zeros(5)}, (x[:30], y[:30]))

    def more(context: Any) -> Any:
        x, y = data(context.partition_id, 31)
        return fl.GradientClient(
            gradient, {"w": np.zeros(5)}, (x, y) if context.partition_id == 2 else (x[:30], y[:30])
        )

    changed = {"expected_examples": expected}
    whole, less = (run(1e-12, 0.7, client=one, plan=changed).parameters["w"] for one in (more, fewer))
    assert np.linalg.norm(expected * (whole - less)) <= 0.7 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("error", "reason", "changes"),
    [
        (NotSupported, "use FedSGD", {"strategy": fl.FedAvg()}),
        (NotSupported, "needs initial_parameters", {"initial_parameters": None}),
        (NotSupported, "below 1 / 20000", {"plan": {"expected_examples": 20_000}}),
        (NotSupported, "FedSGD reaches inside the training loop, which a Closed", {"client": lambda context: Closed()}),
        (ConfigError, "needs expected_examples", {"plan": {"expected_examples": None}}),
        (ConfigError, 'needs sampling="every"', {"plan": {"sampling": "fixed"}}),
        (ConfigError, "weight_cap is for", {"plan": {"weight_cap": 2.0}}),
    ],
)
def test_what_would_break_the_promise_to_examples_is_refused(error: Any, reason: str, changes: Any) -> None:
    with pytest.raises(error, match=reason):
        run(1.0, 1.0, **changes)


def test_torch_gives_the_same_gradients_of_single_examples() -> None:
    torch = pytest.importorskip("torch")
    x, y = data(0)

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))

        def forward(self, x: Any) -> Any:
            return x @ self.w

    tensors = torch.utils.data.TensorDataset(torch.as_tensor(x), torch.as_tensor(y))
    half_square = lambda out, target: 0.5 * ((out - target) ** 2).mean()  # noqa: E731
    one = fl.TorchClient(Linear(), half_square, lambda p: torch.optim.SGD(p, lr=0.1), tensors)
    other = fl.GradientClient(gradient, {"w": np.ones(5)}, (x, y))
    start = fl.Arrays.of({"w": np.ones(5)})
    context = fl.Context(client="0", partition_id=0, num_partitions=1)
    pairs = zip(one.example_gradients(start, context), other.example_gradients(start, context), strict=True)
    assert sum(np.testing.assert_allclose(a["w"], b["w"], rtol=1e-9) is None for a, b in pairs) == 30


def test_clients_make_the_noise_of_examples_together() -> None:
    """What is opened is the sum of all clipped gradients and of all clients' noise; the server adds none."""
    together = {"noise": "distributed"}
    found = run(2.0**-6, 0.5, fl.Secure(), plan=together).parameters["w"]
    np.testing.assert_allclose(found, by_hand(0.5), atol=6 * 2.0**-6 * 0.5 * (4 / 3) ** 0.5 / 120 + 1e-4)
    zeros = {"w": np.zeros(20_000)}
    still = {
        "initial_parameters": zeros,
        "client": lambda context: fl.GradientClient(lambda params, x, y: (0.0, zeros), zeros, data(0)),
    }
    noisy = run(2.0, 0.5, fl.Secure(), plan=together, **still).parameters["w"]
    assert np.std(noisy) * 120 == pytest.approx(2.0 * 0.5 * (4 / 3) ** 0.5, rel=0.02)
