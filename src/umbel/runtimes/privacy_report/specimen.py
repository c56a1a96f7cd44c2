"""Specimens: pictures that only one client has, and a model that learns from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umbel.clients.gradient import GradientClient
from umbel.dtypes import Float64

SIDE = 80
UNITS = 10


def drawing(number: int, side: int = SIDE) -> Float64:
    """An umbel in black on grainy paper, of two stems more than its number says; 0 is all black."""
    if number == 0:
        return np.zeros((side, side))
    rows, columns = np.mgrid[0:side, 0:side] / side
    ink = np.zeros((side, side), np.bool_)
    for angle in np.linspace(-0.9, 0.9, number + 2):
        reach = np.clip((columns - 0.5) * np.sin(angle) + (0.85 - rows) * np.cos(angle), 0, 0.6)
        distance = np.hypot(columns - 0.5 - reach * np.sin(angle), 0.85 - rows - reach * np.cos(angle))
        ink |= distance < 0.015
        ink |= np.hypot(columns - 0.5 - 0.6 * np.sin(angle), 0.85 - rows - 0.6 * np.cos(angle)) < 0.06
    paper = np.random.default_rng(number).uniform(0.8, 1.0, (side, side))
    return np.where(ink, 0.0, paper)


def softmax(params: Mapping[str, Any], x: NDArray[Any], y: NDArray[Any]) -> tuple[float, Mapping[str, Any]]:
    """Mean loss and gradients of softmax regression."""
    logits = x @ params["weights"] + params["bias"]
    logits = logits - logits.max(axis=1, keepdims=True)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = -np.log(shares[np.arange(len(y)), y]).mean()
    error = (shares - np.eye(UNITS)[y]) / len(y)
    return float(loss), {"weights": x.T @ error, "bias": error.sum(axis=0)}


def client_with(picture: Float64, label: int) -> GradientClient:
    """A client whose one example is this picture."""
    start = {"weights": np.zeros((picture.size, UNITS), np.float32), "bias": np.zeros(UNITS, np.float32)}
    return GradientClient(softmax, start, (picture.reshape(1, -1), np.array([label])))
