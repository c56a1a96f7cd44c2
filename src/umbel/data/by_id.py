"""One client per natural id: patient, hospital, writer, school."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, final

import numpy as np

from umbel.data.partitioner import Partitioner
from umbel.data.samples import AnyArray, IntArray, Samples, as_array, distinct
from umbel.errors import ConfigError


@final
@dataclass(frozen=True, init=False)
class NaturalId(Partitioner):
    """One client per distinct id; clients are named by their id and ordered by it.

    Args:
        ids: the name of a column of the data, or one id per sample (numbers or text, none missing).

    Raises:
        ConfigError: (in `split`) there is no such column, an id is missing, or there is not one id per sample.

    Example:
        >>> partition = NaturalId(["b", "a", "b"]).split(3)
        >>> partition.clients, [part.tolist() for part in partition]
        (('a', 'b'), [[1], [0, 2]])
        >>> NaturalId("site").split({"site": ["x", "y"], "age": [3, 4]}).clients
        ('x', 'y')
    """

    ids: str | tuple[object, ...]

    def __init__(self, ids: str | AnyArray | Sequence[object]) -> None:
        value = ids if isinstance(ids, str) else tuple(cast("list[object]", as_array("ids", ids).tolist()))
        object.__setattr__(self, "ids", value)

    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """Group samples by id."""
        values = samples.column(self.ids) if isinstance(self.ids, str) else as_array("ids", list(self.ids))
        if values.shape != (samples.size,):
            raise ConfigError(
                f"ids must be one per sample, shape ({samples.size},), got shape {values.shape}; "
                "give the ids of the same rows, or the name of a column"
            )
        groups = distinct("ids", values)
        order = np.argsort(groups.codes, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(groups.codes))[:-1])
        return {str(value): part for value, part in zip(groups.values, parts, strict=True)}
