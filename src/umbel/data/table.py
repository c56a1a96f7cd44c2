"""Named columns as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from umbel.data.samples import AnyArray
from umbel.errors import ConfigError


@final
@dataclass(frozen=True, eq=False)
class Table(Mapping[str, AnyArray]):
    """Columns of one length by name, one of which may be the target; partitioners take it as it is.

    Args:
        columns: name → array of shape (rows,).
        target: the column to predict, or None.

    Raises:
        ConfigError: columns differ in length, or the target is none of them.

    Example:
        >>> table = Table({"age": np.array([63, 41]), "sick": np.array([1, 0])}, target="sick")
        >>> table.labels.tolist(), table.matrix().tolist(), table.feature_names
        ([1, 0], [[63.0], [41.0]], ('age',))
    """

    columns: Mapping[str, AnyArray]
    target: str | None = None

    def __post_init__(self) -> None:
        lengths = {name: np.shape(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1 or any(len(shape) != 1 for shape in lengths.values()):
            raise ConfigError(f"columns must be 1-D arrays of one length, got shapes {lengths}; cut or fill them first")
        if self.target is not None:
            self[self.target]

    def __getitem__(self, name: str) -> AnyArray:
        if name not in self.columns:
            raise ConfigError(
                f"column {name!r} is not in the table, which has {', '.join(map(repr, self.columns))}; try one of these"
            )
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    @property
    def num_rows(self) -> int:
        """Length of every column."""
        return next((len(column) for column in self.columns.values()), 0)

    @property
    def labels(self) -> AnyArray:
        """The target column."""
        if self.target is None:
            raise ConfigError("the table has no target; name a column: try target='...' when loading")
        return self[self.target]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of numbers and booleans, without the target; what `matrix` holds."""
        return tuple(
            name for name, column in self.columns.items() if column.dtype.kind in "biuf" and name != self.target
        )

    def matrix(self, names: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Columns side by side as float64 of shape (rows, columns); NaN where a number is missing.

        Args:
            names: the columns to take; default `feature_names`.

        Raises:
            ConfigError: a named column does not exist or holds text.
        """
        chosen = self.feature_names if names is None else tuple(names)
        for name in chosen:
            if self[name].dtype.kind not in "biuf":
                raise ConfigError(
                    f"column {name!r} holds no numbers (dtype {self[name].dtype}); encode it first, or leave it out"
                )
        return (
            np.stack([self[name].astype(np.float64) for name in chosen], axis=1)
            if chosen
            else np.empty((self.num_rows, 0))
        )
