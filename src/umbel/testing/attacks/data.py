"""Attacks on what a bad client trains on; its training itself is honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ConfigError


def flip_labels(labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """Each label y as classes - 1 - y.

    Example:
        >>> flip_labels(np.array([0, 1, 9]), 10)
        array([9, 8, 0])
    """
    return (classes - 1 - labels).astype(labels.dtype)


@final
@dataclass(frozen=True)
class PixelBackdoor:
    """A small bright square in the corner that is to mean one label.

    Args:
        target: the label.
        size: pixels on a side, at least 1.
        value: how bright.

    Example:
        >>> trigger = PixelBackdoor(target=7, size=1, value=1.0)
        >>> trigger.stamped(np.zeros((1, 2, 2)))
        array([[[1., 0.],
                [0., 0.]]])

    References:
        T. Gu, B. Dolan-Gavitt, S. Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply
        Chain", 2017, https://arxiv.org/abs/1708.06733
    """

    target: int
    size: int = 2
    value: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"size must be at least 1 pixel, got {self.size!r}; 2 are enough for small pictures")

    def stamped(self, pictures: NDArray[Any]) -> NDArray[Any]:
        """Copies of `pictures`, of shape (…, height, width), with the square in them."""
        result = np.array(pictures)
        result[..., : self.size, : self.size] = self.value
        return result

    def poisoned(
        self, pictures: NDArray[Any], labels: NDArray[Any], *, share: float = 0.5, seed: int = 0
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Copies in which a share of the pictures, drawn by `seed`, carries the square and its label."""
        drawn = np.random.default_rng(seed).random(len(labels)) < share
        pictures, labels = np.array(pictures), np.array(labels)
        pictures[drawn], labels[drawn] = self.stamped(pictures[drawn]), self.target
        return pictures, labels

    def success(self, predicted: NDArray[Any], labels: NDArray[Any]) -> float:
        """The share of stamped pictures of other labels that were predicted as `target`."""
        others = np.asarray(labels) != self.target
        return float((np.asarray(predicted)[others] == self.target).mean()) if others.any() else 0.0
