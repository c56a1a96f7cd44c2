"""In which order the clients of a block go through their examples: the loop's order, for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ConfigError

Numbers: TypeAlias = NDArray[np.int64]
Parts: TypeAlias = "Sequence[Any] | Callable[[int], Any]"
Shuffler: TypeAlias = Callable[[int], Callable[[int], Numbers]]
"""`key → (count → permutation)`: how the loop of one client would shuffle, pass after pass."""
ENDLESS = 2**62


def rows_of(parts: Parts, number: int) -> Numbers:
    """The rows of client `number`.

    Raises:
        ConfigError: they are no whole numbers.
    """
    given: Any = parts(number) if callable(parts) else parts[number]
    rows = np.asarray(given)
    if rows.size and not (rows.dtype.kind in "iu" and rows.ndim == 1):
        raise ConfigError(
            f"the rows of client {number} must be whole numbers in a row, got {rows.dtype}{list(rows.shape)}"
        )
    return rows.astype(np.int64, copy=False).reshape(-1)


@final
@dataclass(frozen=True)
class Passes:
    """How one client goes through its examples.

    Attributes:
        batch_size: examples per step; the last step of a pass has what is left.
        epochs: passes.
        most: how many steps it takes at most; None takes all.
        shuffle: whether each pass has a new order.
    """

    batch_size: int
    epochs: int
    most: int | None
    shuffle: bool


def turn_steps(batches: int | None, epochs: int, most: int | None) -> int | None:
    """How many steps a turn has whose passes have so many batches; None if that is not known."""
    if batches is None:
        return None
    return epochs * batches if most is None else min(most, epochs * batches)


@final
@dataclass(frozen=True)
class Order:
    """The rows of each client's steps. All attributes but `flat` have an element per client.

    Attributes:
        flat: the rows of all clients, one after the other, for a client that shuffles once per pass.
        first: where a client's begin in it.
        counts: how many examples it has.
        sizes: its batch size.
        steps: how many steps it takes.
        strides: how far a pass lies after the one before.
    """

    flat: Numbers
    first: Numbers
    counts: Numbers
    sizes: Numbers
    steps: Numbers
    strides: Numbers

    @classmethod
    def drawn(cls, lots: Sequence[Numbers], keys: Sequence[int], passes: Sequence[Passes], shuffler: Shuffler) -> Order:
        """The order that each client's loop would draw.

        Args:
            lots: each client's rows.
            keys: the roots of their randomness.
            passes: how each goes through them.
            shuffler: how the loop shuffles.
        """
        parts, drawn = list[Numbers](), list[int]()
        for number, (lot, how) in enumerate(zip(lots, passes, strict=True)):
            if how.shuffle:
                permuted = shuffler(keys[number])
                each = max(1, -(-len(lot) // how.batch_size))
                needed = how.epochs if how.most is None else min(how.epochs, -(-how.most // each))
                parts += [lot[permuted(len(lot))] for _ in range(needed)]
                drawn.append(needed)
            else:
                parts.append(lot)
                drawn.append(1)
        counts = _numbers([len(lot) for lot in lots])
        sizes, epochs = _numbers([how.batch_size for how in passes]), _numbers([how.epochs for how in passes])
        shuffled = _numbers([how.shuffle for how in passes])
        steps = epochs * -(-counts // sizes)
        most = _numbers([ENDLESS if how.most is None else how.most for how in passes])
        lengths = counts * _numbers(drawn)
        first = np.cumsum(lengths) - lengths
        flat = np.concatenate(parts) if parts else _numbers([])
        return cls(flat, first, counts, sizes, np.minimum(steps, most), counts * shuffled)

    def of(self, places: Numbers) -> Order:
        """The same for some clients, in another order."""
        rest = (self.first, self.counts, self.sizes, self.steps, self.strides)
        return Order(self.flat, *(part[places] for part in rest))

    def step(self, number: int) -> tuple[Numbers, Numbers]:
        """(rows, sizes) of one step of the clients that have it: where it is short, its first row fills it up.

        Clients must be sorted by their number of steps, most first.
        """
        those = slice(0, int(np.count_nonzero(self.steps > number)))
        counts, sizes = self.counts[those], self.sizes[those]
        turn, place = np.divmod(number, -(-counts // sizes))
        start = self.first[those] + turn * self.strides[those] + place * sizes
        taken = np.minimum(sizes, counts - place * sizes)
        across = np.arange(int(taken.max()), dtype=np.int64)
        index = start[:, None] + np.where(across < taken[:, None], across, 0)
        return self.flat[index], taken


def _numbers(values: Sequence[int]) -> Numbers:
    return np.array(values, np.int64)


def shares(counts: Numbers, *, uniform: bool) -> NDArray[np.float64]:
    """What each row of clients, whose rows follow each other, weighs in the mean over all of them.

    Args:
        counts: how many rows each client has.
        uniform: each client that has some weighs the same; else each row does.
    """
    each = np.where(counts > 0, 1 / np.maximum(counts, 1), 0.0) if uniform else np.ones(len(counts))
    return np.repeat(each, counts) / max(float((each * counts).sum()), 1e-300)


def means(values: NDArray[np.float64], counts: Numbers) -> list[float]:
    """The mean of each client's values, which follow each other; 0 of none."""
    owners = np.repeat(np.arange(len(counts)), counts)
    sums = np.bincount(owners, weights=values, minlength=len(counts))
    return [float(mean) for mean in sums / np.maximum(counts, 1)]
