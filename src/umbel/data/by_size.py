"""Partitioners that look at no label: equal, Dirichlet and exponential sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import final

import numpy as np

from umbel.data.apportion import apportion_at_least
from umbel.data.checks import check_num_clients, check_seed, enough_samples, positive_number, whole_number
from umbel.data.dirichlet import dirichlet
from umbel.data.partitioner import Partitioner, numbered
from umbel.data.randomness import generator
from umbel.data.samples import IntArray, Samples
from umbel.errors import ConfigError


@final
@dataclass(frozen=True)
class IID(Partitioner):
    """Samples dealt at random in equal numbers; sizes differ by one at most.

    Args:
        num_clients: at least 1, at most the number of samples.
        seed: whole number from 0.

    Raises:
        ConfigError: an argument is out of range, or (in `split`) there are more clients than samples.

    Example:
        >>> IID(3, seed=1).split(10).sizes.tolist()
        [4, 3, 3]

    References:
        B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017,
        https://arxiv.org/abs/1602.05629.
    """

    num_clients: int
    _: KW_ONLY
    seed: int = 0

    def __post_init__(self) -> None:
        check_num_clients(self.num_clients)
        check_seed(self.seed)

    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """Cut one random order into equal pieces."""
        enough_samples(samples.size, self.num_clients)
        order = generator(self.seed, "iid").permutation(samples.size)
        return numbered(np.array_split(order, self.num_clients))


@final
@dataclass(frozen=True)
class DirichletSizes(Partitioner):
    """Random samples, with client sizes in proportion to one draw of Dirichlet(alpha, …, alpha).

    Args:
        num_clients: at least 1.
        alpha: above 0; small is uneven, large is even.
        min_size: every client gets at least so many samples (from 0); the largest clients give what is missing.
        seed: whole number from 0.

    Raises:
        ConfigError: an argument is out of range, or (in `split`) num_clients * min_size is more than the samples.

    Example:
        >>> sizes = DirichletSizes(5, alpha=0.3).split(1000).sizes
        >>> int(sizes.sum()), bool(sizes.min() >= 1)
        (1000, True)

    References:
        Q. Li, Y. Diao, Q. Chen, B. He, "Federated Learning on Non-IID Data Silos: An Experimental Study", 2022,
        https://arxiv.org/abs/2102.02079 (quantity skew).
    """

    num_clients: int
    _: KW_ONLY
    alpha: float
    min_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_num_clients(self.num_clients)
        positive_number("alpha", self.alpha, hint="try 0.5 for uneven sizes, 100 for nearly even ones")
        whole_number("min_size", self.min_size, minimum=0, hint="try min_size=1")
        check_seed(self.seed)

    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """Cut one random order at the drawn sizes."""
        enough_samples(samples.size, self.num_clients, min_size=self.min_size)
        weights = dirichlet(generator(self.seed, "dirichlet-sizes"), self.alpha, self.num_clients)
        sizes = apportion_at_least(samples.size, weights, self.min_size)
        return numbered(_cut(generator(self.seed, "dirichlet-sizes-order"), sizes))


@final
@dataclass(frozen=True)
class ExponentialSizes(Partitioner):
    """Random samples, with sizes that shrink by a constant ratio: size of client i ∝ ratio^i.

    Args:
        num_clients: at least 1.
        ratio: size of a client over that of the one before, above 0 and at most 1 (equal sizes).
        min_size: every client gets at least so many samples (from 0); the largest clients give what is missing.
        seed: whole number from 0.

    Raises:
        ConfigError: an argument is out of range, or (in `split`) num_clients * min_size is more than the samples.

    Example:
        >>> ExponentialSizes(4, ratio=0.5).split(150).sizes.tolist()
        [80, 40, 20, 10]
    """

    num_clients: int
    _: KW_ONLY
    ratio: float
    min_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_num_clients(self.num_clients)
        if positive_number("ratio", self.ratio, hint="try ratio=0.8") > 1:
            raise ConfigError(
                f"ratio must be above 0 and at most 1, got {self.ratio!r}; try ratio={1 / self.ratio:.3g}"
            )
        whole_number("min_size", self.min_size, minimum=0, hint="try min_size=1")
        check_seed(self.seed)

    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """Cut one random order at the exponential sizes."""
        enough_samples(samples.size, self.num_clients, min_size=self.min_size)
        weights = np.power(float(self.ratio), np.arange(self.num_clients, dtype=np.float64))
        sizes = apportion_at_least(samples.size, weights, self.min_size)
        return numbered(_cut(generator(self.seed, "exponential-sizes"), sizes))


def _cut(rng: np.random.Generator, sizes: IntArray) -> list[IntArray]:
    return np.split(rng.permutation(int(sizes.sum())), np.cumsum(sizes)[:-1])
