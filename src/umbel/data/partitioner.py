"""What every partitioner is: a frozen value with one method that assigns samples to clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import final

from umbel.data.partition import Partition
from umbel.data.samples import Data, IntArray, Labels, Samples, read_samples
from umbel.errors import ConfigError


class Partitioner(ABC):
    """Splits a data set over clients; the same value and data give the same partition.

    To write one, make a frozen dataclass with `assign`, which returns client name → sample numbers. `split` checks that
    every sample is given exactly once.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from umbel.data import Partitioner
        >>> @dataclass(frozen=True)
        ... class EvenOdd(Partitioner):
        ...     def assign(self, samples):
        ...         rows = np.arange(samples.size)
        ...         return {"even": rows[::2], "odd": rows[1::2]}
        >>> EvenOdd().split(5).sizes.tolist()
        [3, 2]
    """

    __slots__ = ()

    @abstractmethod
    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """Client name → sample numbers, each sample exactly once."""

    @final
    def split(self, data: Data, *, labels: Labels | None = None) -> Partition:
        """Split data over the clients.

        Args:
            data: a number of samples, an array with samples along its first axis, a mapping of columns, a pandas
                DataFrame or a Hugging Face Dataset. A 1-D array of whole numbers, booleans or text is its own labels.
            labels: one class per sample, or the name of the column that holds it.

        Returns:
            The partition; it knows the labels when they were given.

        Raises:
            ConfigError: the data is empty, labels do not fit it, or it cannot be split as asked.
        """
        samples = read_samples(data, labels)
        assigned = self.assign(samples)
        partition = Partition(tuple(assigned.values()), tuple(assigned), samples.known_classes)
        if partition.size != samples.size:
            raise ConfigError(
                f"{type(self).__name__}.assign must give all {samples.size} samples, got {partition.size}; "
                "look for samples that were dropped"
            )
        return partition


def numbered(parts: Sequence[IntArray]) -> dict[str, IntArray]:
    """Name the clients "0", "1", …"""
    return {str(number): part for number, part in enumerate(parts)}
