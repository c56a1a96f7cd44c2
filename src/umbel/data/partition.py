"""The result of a split: which samples each client holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, cast, final, overload, runtime_checkable

import numpy as np

from umbel.data.description import Description, count_classes, describe
from umbel.data.heterogeneity import Heterogeneity, measure
from umbel.data.samples import Classes, Frame, IntArray, RowSet, as_array
from umbel.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


@final
@dataclass(frozen=True, eq=False)
class Partition(Sequence[IntArray]):
    """Every sample in exactly one part; `partition[i]` holds the sample numbers of client i in ascending order.

    Made by `Partitioner.split`. Indexing gives copies, which the caller may change; `parts` is read-only.

    Args:
        parts: one int64 array of sample numbers per client; together they are 0 .. size - 1, each once.
        clients: one distinct name per client; "0", "1", … unless the split is by natural id.
        classes: the classes of the samples where the data had labels, else None.

    Raises:
        ConfigError: a sample is in no part or in two, or names are missing or repeated.

    Example:
        >>> import numpy as np
        >>> from umbel.data import IID
        >>> y = np.array([0, 1, 0, 1, 0, 1])
        >>> partition = IID(3).split(y)
        >>> len(partition), partition.size, len(partition[0])
        (3, 6, 2)
        >>> partition.take(0, y).shape
        (2,)
    """

    parts: tuple[IntArray, ...]
    clients: tuple[str, ...]
    classes: Classes | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(_sorted(part) for part in self.parts))
        if len(self.clients) != len(self.parts) or len(set(self.clients)) != len(self.clients):
            raise ConfigError(
                f"clients must be {len(self.parts)} distinct names, got {len(self.clients)} names, "
                f"{len(set(self.clients))} of them distinct; try the numbers as text"
            )
        together = np.sort(np.concatenate(self.parts)) if self.parts else np.empty(0, dtype=np.int64)
        if not np.array_equal(together, np.arange(len(together))):
            raise ConfigError(
                f"parts must hold every sample exactly once, got {len(together)} entries that are not "
                f"0 .. {len(together) - 1}; look for a sample that was dropped or given twice"
            )
        if self.classes is not None and len(self.classes.codes) != len(together):
            raise ConfigError(
                f"classes must tell one class per sample, got {len(self.classes.codes)} for {len(together)} samples; "
                "give those of the data that was split"
            )

    @property
    def size(self) -> int:
        """Number of samples over all clients."""
        return sum(len(part) for part in self.parts)

    @property
    def sizes(self) -> IntArray:
        """Number of samples of each client."""
        return np.array([len(part) for part in self.parts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, index: int) -> IntArray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[IntArray]: ...
    def __getitem__(self, index: int | slice) -> IntArray | Sequence[IntArray]:
        # Copies, not the read-only arrays: torch warns when it is indexed with an array that it could not write to.
        if isinstance(index, slice):
            return tuple(part.copy() for part in self.parts[index])
        return self.parts[index].copy()

    @overload
    def take(self, client: int | str, first: A, /) -> A: ...
    @overload
    def take(self, client: int | str, first: A, second: B, /) -> tuple[A, B]: ...
    @overload
    def take(self, client: int | str, first: A, second: B, third: C, /, *others: C) -> tuple[A | B | C, ...]: ...
    def take(self, client: int | str, first: object, /, *others: object) -> object:
        """The client's rows of one or several data sets of the same kind and order that was split.

        Args:
            client: number (from 0) or name.
            first, others: arrays, mappings of columns, DataFrames or Hugging Face Datasets, `size` rows each.

        Returns:
            What was given, with the client's rows only; a tuple where several were given.

        Raises:
            ConfigError: there is no such client, or the number of rows is not `size`.
        """
        rows = self[self._number(client)]
        taken = tuple(_take_rows(data, rows, self.size) for data in (first, *others))
        return taken[0] if not others else taken

    def describe(self) -> Description:
        """A table of the clients: rows, share, number of labels, most frequent label; print it or read its `rows`.

        Example:
            >>> from umbel.data import Shards
            >>> print(Shards(2, shards_per_client=1).split(["a", "a", "a", "b", "b", "b"], labels=None).describe())
            client  rows   share  labels  majority label  majority share
            0          3   50.0%       1               a          100.0%
            1          3   50.0%       1               b          100.0%
            total      6  100.0%       2               a           50.0%
        """
        return describe(self.clients, self.sizes, self.class_counts(), self.classes)

    def class_counts(self) -> IntArray | None:
        """Samples per client (row) and class (column), in the order of `classes.values`; None without labels."""
        return None if self.classes is None else count_classes(self.parts, self.classes)

    def heterogeneity(self) -> Heterogeneity:
        """How different the clients are, in label distribution and size; see `Heterogeneity` for the formulas."""
        return measure(self.sizes, self.class_counts())

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw one stacked bar per client: how many samples of each label.

        Args:
            path: where to write the picture; the suffix decides the format (png, svg, pdf).

        Returns:
            The matplotlib figure; no window is opened and matplotlib's global state is not touched.

        Raises:
            ConfigError: matplotlib is not installed, or the suffix names no picture format.
        """
        from umbel.data.plot import plot_partition

        return plot_partition(self, path)

    def _number(self, client: int | str) -> int:
        if isinstance(client, str) and client in self.clients:
            return self.clients.index(client)
        if isinstance(client, (int, np.integer)) and 0 <= client < len(self.parts):
            return int(client)
        raise ConfigError(
            f"client must be a number from 0 to {len(self.parts) - 1} or a name in partition.clients, got {client!r}; "
            f"try {self.clients[0]!r}"
        )


def _sorted(part: object) -> IntArray:
    rows = np.asarray(part)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ConfigError(
            f"a part must be a 1-D array of sample numbers, got shape {rows.shape} of {rows.dtype}; "
            "try np.flatnonzero(mask)"
        )
    rows = np.sort(rows.astype(np.int64))
    rows.flags.writeable = False
    return rows


def _take_rows(data: object, rows: IntArray, size: int) -> object:
    if isinstance(data, Mapping):
        columns = cast("Mapping[str, object]", data)
        return {name: _take_rows(column, rows, size) for name, column in columns.items()}
    source = data if isinstance(data, (Frame, RowSet, Indexable)) else as_array("data", data)
    length = len(source) if getattr(source, "shape", None) != () else 0
    if length != size:
        raise ConfigError(
            f"data must have the {size} rows that were split, got {length}; give the same data in the same order"
        )
    if isinstance(source, Frame):
        return source.iloc[rows]
    return source.select(rows) if isinstance(source, RowSet) else source[rows]


@runtime_checkable
class Indexable(Protocol):
    """An array of any library (NumPy, torch, …), as far as we need one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: IntArray, /) -> object: ...
