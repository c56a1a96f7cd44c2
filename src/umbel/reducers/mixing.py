"""What is done to the updates before a robust reducer sees them: nearest-neighbour mixing and bucketing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.errors import ConfigError
from umbel.randomness import derive, generator
from umbel.reducers.robust import Robust, check_f
from umbel.reducers.rows import Rows

SAMPLES = 4096


@final
@dataclass(frozen=True)
class NearestNeighbourMixing(Robust):
    """Each update becomes the mean of the n - f that are nearest to it, itself included; then another reducer.

    Args:
        then: the robust reducer that follows.
        f: how many bad updates to withstand; None takes that of `then`. A round needs 2·f + 1 updates or more.

    It makes any of the rules hold where honest clients differ much, for f < n/2. The mixed updates are never written
    down: their distances follow from those of the updates.

    Example:
        >>> from umbel.reducers import Krum
        >>> NearestNeighbourMixing(Krum(f=4)).least_updates
        9

    References:
        Y. Allouah, S. Farhadkhani, R. Guerraoui, N. Gupta, R. Pinot, J. Stephan, "Fixing by Mixing: A Recipe for
        Optimal Byzantine ML under Heterogeneity", AISTATS 2023, https://arxiv.org/abs/2302.01772
    """

    then: Robust
    f: int | None = None

    def __post_init__(self) -> None:
        _check_then(self.then)
        if self.f is not None:
            check_f(self.f)
        elif getattr(self.then, "f", None) is None:
            raise ConfigError(
                f"f must be given, as {self.then!r} has none that could be taken; it is how many bad updates to "
                "withstand"
            )

    @property
    def bad(self) -> int:
        """How many bad updates it withstands."""
        return int(getattr(self.then, "f", 0)) if self.f is None else self.f

    @property
    def least_updates(self) -> int:
        return max(self.then.least_updates, 2 * self.bad + 1)

    def reduced(self, rows: Rows) -> Vector:
        kept = len(rows) - self.bad
        mixing = np.zeros((len(rows), len(rows)))
        nearest = np.argsort(rows.apart, axis=1, kind="stable")[:, :kept]
        np.put_along_axis(mixing, nearest, 1.0 / kept, axis=1)
        return self.then.reduced(rows.mixed(mixing))


@final
@dataclass(frozen=True)
class Bucketing(Robust):
    """The updates are shuffled, and the mean of every `size` of them goes on to another reducer.

    Args:
        then: the robust reducer that follows; f bad updates spoil at most f buckets, so its f stays.
        size: how many updates are in a bucket (the last may have fewer), at least 2.

    Means differ less than updates do, and there are fewer of them, which makes the reducer after it cheaper and milder;
    but a larger part of them is bad, and n / size of them must be enough for `then`. The shuffle follows from what the
    updates hold, so that equal updates give equal bits, and nobody knows it before all have come.

    Example:
        >>> from umbel.reducers import Krum
        >>> Bucketing(Krum(f=4), size=2).least_updates
        17

    References:
        S. P. Karimireddy, L. He, M. Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR
        2022, https://arxiv.org/abs/2006.09365
    """

    then: Robust
    size: int = 2

    def __post_init__(self) -> None:
        _check_then(self.then)
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 2:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"size must be a whole number of at least 2, got {self.size!r}; it is that of a bucket")

    @property
    def least_updates(self) -> int:
        return (self.then.least_updates - 1) * self.size + 1

    def reduced(self, rows: Rows) -> Vector:
        order = generator(_digest(rows.updates)).permutation(len(rows))
        buckets = np.arange(len(rows)) // self.size
        mixing = np.zeros((int(buckets[-1]) + 1, len(rows)))
        mixing[buckets, order] = 1.0
        return self.then.reduced(rows.mixed(mixing / mixing.sum(axis=1, keepdims=True)))


def _digest(updates: list[Arrays]) -> int:
    """A number that some bytes of each update decide."""
    told = hashlib.sha256()
    for update in updates:
        told.update(update.data[:: max(1, update.data.size // SAMPLES)].tobytes())
    return derive(told.digest(), "buckets")


def _check_then(then: object) -> None:
    if not isinstance(then, Robust):
        raise ConfigError(f"what follows must be a robust reducer such as Krum(f=4) or Median(), got {then!r}")
