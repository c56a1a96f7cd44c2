"""How numbers are spread over clients: each distribution is its quantile function."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from numbers import Real
from statistics import NormalDist
from typing import Protocol, TypeAlias, cast, final, runtime_checkable

from umbel.errors import ConfigError, UmbelError
from umbel.message import is_number, require
from umbel.runtimes.system.draws import uniform

_NORMAL = NormalDist()


@runtime_checkable
class Distribution(Protocol):
    """A distribution of one number, as its quantile function. One of your own needs this method alone."""

    def quantile(self, u: float) -> float:
        """The value that a share `u` of all clients does not exceed, 0 < u < 1."""
        ...


Quantity: TypeAlias = "float | Distribution | Callable[[str], float]"
"""One number for all clients, a distribution over them, or a function of a client's id."""


@final
@dataclass(frozen=True)
class LogNormal:
    """exp(ln median + sigma·z) with z normal: most clients near the median, a heavy tail of large values.

    Args:
        median: above 0.
        sigma: of the logarithm, 0 to 50. With 1, the slowest percent is 10 times the median, with 2 100 times.

    Example:
        >>> round(LogNormal(2.0, sigma=1.0).quantile(0.5), 9)
        2.0
    """

    median: float = 1.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        require(
            is_number(self.median) and 0 < self.median < math.inf,
            f"median must be a finite number above 0, got {self.median!r}",
        )
        require(is_number(self.sigma) and 0 <= self.sigma <= 50, f"sigma must be from 0 to 50, got {self.sigma!r}")

    def quantile(self, u: float) -> float:
        return self.median * math.exp(self.sigma * _NORMAL.inv_cdf(u))


@final
@dataclass(frozen=True)
class HalfNormal:
    """scale·|z| with z normal.

    Args:
        scale: above 0; the mean is 0.798·scale.

    References:
        J. Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022, which draws the
        duration of training from it, https://arxiv.org/abs/2106.06639
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        require(
            is_number(self.scale) and 0 < self.scale < math.inf,
            f"scale must be a finite number above 0, got {self.scale!r}",
        )

    def quantile(self, u: float) -> float:
        return self.scale * _NORMAL.inv_cdf((1 + u) / 2)


@final
@dataclass(frozen=True)
class Pareto:
    """least·(1 - u)^(-1/alpha): a power law, with P(X > x) = (least/x)^alpha.

    Args:
        least: the smallest value, above 0.
        alpha: at least 0.1; the mean is infinite up to 1, the variance up to 2.

    Example:
        >>> round(Pareto(1.0, alpha=2.0).quantile(0.99), 9)
        10.0
    """

    least: float = 1.0
    alpha: float = 2.0

    def __post_init__(self) -> None:
        require(
            is_number(self.least) and 0 < self.least < math.inf,
            f"least must be a finite number above 0, got {self.least!r}",
        )
        require(
            is_number(self.alpha) and 0.1 <= self.alpha < math.inf,
            f"alpha must be a finite number of at least 0.1, got {self.alpha!r}",
        )

    def quantile(self, u: float) -> float:
        return self.least * (1 - u) ** (-1 / self.alpha)


@final
@dataclass(frozen=True)
class Zipf:
    """scale·k with P(k) ∝ k^-exponent for k from 1 to `most`.

    Args:
        exponent: at least 0; 0 is uniform.
        most: the largest k, from 1 to 1,000,000.
        scale: what a value of 1 stands for, above 0.

    Example:
        >>> [Zipf(1.0, most=4).quantile(u) for u in (0.1, 0.6, 0.99)]
        [1.0, 2.0, 4.0]
    """

    exponent: float = 1.0
    most: int = 1000
    scale: float = 1.0

    def __post_init__(self) -> None:
        require(
            is_number(self.exponent) and 0 <= self.exponent < math.inf,
            f"exponent must be a finite number of at least 0, got {self.exponent!r}",
        )
        require(
            isinstance(self.most, int) and is_number(self.most) and 1 <= self.most <= 10**6,  # pyright: ignore[reportUnnecessaryIsInstance]
            f"most must be a whole number from 1 to 1,000,000, got {self.most!r}",
        )
        require(
            is_number(self.scale) and 0 < self.scale < math.inf,
            f"scale must be a finite number above 0, got {self.scale!r}",
        )

    def quantile(self, u: float) -> float:
        running = _zipf(self.exponent, self.most)
        return self.scale * (min(bisect_left(running, u * running[-1]), self.most - 1) + 1)


@lru_cache(maxsize=16)
def _zipf(exponent: float, most: int) -> list[float]:
    return list(accumulate(k**-exponent for k in range(1, most + 1)))


@final
@dataclass(frozen=True)
class Empirical:
    """One of the given values, each as likely as the others: speeds that were measured somewhere.

    Example:
        >>> Empirical([3.0, 1.0]).quantile(0.9)
        3.0
    """

    values: Sequence[float]

    def __post_init__(self) -> None:
        given = tuple(self.values) if isinstance(cast("object", self.values), Iterable) else ()
        bad = next((value for value in given if not is_number(value) or math.isnan(value)), None)
        require(bad is None, f"values must be numbers, got {bad!r} among them")
        require(len(given) > 0, f"values must hold at least one number, got {self.values!r}")
        values = tuple(sorted(given))
        object.__setattr__(self, "values", values)

    def quantile(self, u: float) -> float:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


def drawn(name: str, quantity: Quantity, client: str, seed: int, *when: object) -> float:
    """What `quantity` is for a client.

    Args:
        name: of the quantity; each has randomness of its own.
        when: what else the draw depends on; nothing for what stays the same for the whole run.

    Raises:
        ConfigError: it is negative or NaN, or infinite and no bandwidth, or raises.
    """
    if isinstance(quantity, (int, float)):  # first, because looking for a method is slow
        value = quantity
    else:
        try:
            if isinstance(quantity, Distribution):
                value = quantity.quantile(uniform(seed, "system", name, client, *when))
            else:
                value = quantity(client)
        except UmbelError:
            raise
        except Exception as error:
            raise ConfigError(f"{name} gives client {client} no number: {type(error).__name__}: {error}") from error
    if not isinstance(value, Real) or not value >= 0 or (math.isinf(value) and not name.endswith("_bytes_per_s")):
        raise ConfigError(f"{name} must be a finite number of at least 0, got {value!r} for client {client}")
    return float(value)


def check(name: str, quantity: object) -> None:
    """Refuse what is no quantity.

    Raises:
        ConfigError: says what it may be.
    """
    is_one = isinstance(quantity, (int, float)) and not isinstance(quantity, bool) and quantity >= 0
    require(
        is_one or isinstance(quantity, Distribution) or callable(quantity),
        f"{name} must be a number of at least 0, a distribution such as LogNormal() or a function of the client's id, "
        f"got {quantity!r}",
    )
