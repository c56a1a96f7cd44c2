"""Clipping by layer: each is within its bound, and the noise is for all of them together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import umbel as fl
from umbel.errors import ConfigError
from umbel.privacy.clip import clipped, grid_of
from umbel.privacy.layers import layers_of, whole_bound

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

NAMES = ["body.w", "body.b", "head"]


def update(seed: int, size: float) -> fl.Arrays:
    rng = np.random.default_rng(seed)
    shapes = {"body.w": (3, 4), "body.b": (4,), "head": (5,)}
    return fl.Arrays.of({name: size * rng.standard_t(2, shape) for name, shape in shapes.items()})


def norm(arrays: fl.Arrays, *names: str) -> float:
    return math.sqrt(sum(float((np.asarray(arrays[name]) ** 2).sum()) for name in names))


@given(st.integers(0, 2**32), st.floats(1e-3, 1e3), st.floats(1e-2, 1e2), st.floats(1e-2, 1e2))
def test_no_layer_and_no_update_is_longer_than_its_bound(seed: int, size: float, body: float, head: float) -> None:
    clip = {"body.*": body, "head": head}
    before = update(seed, size)
    after, within = clipped(before, whole_bound(clip), layers=layers_of(clip, NAMES))
    assert norm(after, "body.w", "body.b") <= body
    assert norm(after, "head") <= head
    assert norm(after, *NAMES) <= whole_bound(clip)
    assert within == (norm(before, "body.w", "body.b") <= body and norm(before, "head") <= head)
    # Each keeps its direction, to the grid.
    step = grid_of(whole_bound(clip))
    shrunk = min(1.0, head / norm(before, "head"))
    np.testing.assert_allclose(after["head"], np.asarray(before["head"]) * shrunk, atol=1.001 * step, rtol=1e-9)


def test_one_layer_of_everything_is_the_plain_clip() -> None:
    plain, _ = clipped(update(1, 3.0), 0.7)
    layered, _ = clipped(update(1, 3.0), 0.7, layers=layers_of({"*": 0.7}, NAMES))
    assert plain.digest == layered.digest


def test_an_even_split_gives_each_array_its_share() -> None:
    after, _ = clipped(update(2, 1e3), 3.0, layers=layers_of(3.0, NAMES, each=True))
    for name in NAMES:
        assert norm(after, name) == pytest.approx(3.0 / math.sqrt(3), rel=1e-4)
    assert norm(after, *NAMES) <= 3.0


class Far(fl.NumPyClient):
    """Moves the first elements of each array far."""

    def fit(self, parameters: Any, config: Any) -> Any:
        moved = {name: np.array(values) for name, values in parameters.items()}
        for values in moved.values():
            values[:4] += 100.0
        return moved, 1, {}


def run(coordinator: Any = None, clients: int = 6, **plan: Any) -> Any:
    given = {"noise_multiplier": 1.5, "delta": 1e-5, "sampling": "every", **plan}
    return fl.simulate(
        lambda context: Far(),
        clients,
        strategy=fl.FedAvg(weighting="uniform"),
        config=fl.ServerConfig(1, fraction_evaluate=0.0, seed=1),
        initial_parameters={"body": np.zeros(30_000), "head": np.zeros(30_000)},
        privacy=fl.PrivacyPlan(**given),
        coordinator=coordinator,
        engine="serial",
        progress=False,
    ).parameters


@pytest.mark.parametrize("noise", ["server", "distributed"])
def test_the_noise_is_for_all_layers_together(noise: Any) -> None:
    coordinator = fl.Secure() if noise == "distributed" else None
    found = run(coordinator, clip={"body": 3.0, "head": 4.0}, noise=noise)
    surplus = math.sqrt(6 / 5) if noise == "distributed" else 1.0
    for values in found.values():
        # z · √(3² + 4²) on each number, of whichever layer.
        assert np.std(values[4:]) * 6 == pytest.approx(1.5 * 5.0 * surplus, rel=0.02)


@pytest.mark.parametrize("coordinator", [None, fl.Secure()], ids=["plain", "secure"])
def test_clients_and_server_clip_each_layer(coordinator: Any) -> None:
    found = run(coordinator, clip={"body": 3.0, "head": 4.0}, noise_multiplier=1e-6)
    np.testing.assert_allclose(found["body"][:4], 3.0 / 2, atol=1e-3)
    np.testing.assert_allclose(found["head"][:4], 4.0 / 2, atol=1e-3)
    even = run(coordinator, clip=2.0, clip_each=True, noise_multiplier=1e-6)
    np.testing.assert_allclose(even["body"][:4], math.sqrt(2) / 2, atol=1e-3)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"clip": {"body": 1.0}}, "array 'head' is in none of its layers of clip"),
        ({"clip": {"*": 1.0, "head": 1.0}}, "array 'head' is in both"),
        ({"clip": {"*": 1.0, "tail": 1.0}}, "clip names 'tail', which is no trained array"),
        ({"clip": {"body": 1.0, "head": -1.0}}, r"clip\['head'\] must be"),
        ({"clip": {}}, "needs a bound for each"),
        ({"clip": {"name": 1.0}}, "cannot name an array"),
        ({"clip": {"*": 1.0}, "adaptive": fl.AdaptiveClip()}, "adaptive is for one clip"),
        ({"clip": {"*": 1.0}, "clip_each": True}, "clip_each is for one clip"),
        ({"clip": 1.0, "clip_each": True, "adaptive": fl.AdaptiveClip()}, "adaptive moves one clip"),
    ],
)
def test_layers_that_do_not_make_up_a_model_are_refused(plan: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        run(**plan)
