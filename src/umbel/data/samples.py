"""What a partitioner sees of the data: how many samples, their classes, and columns by name.

Data may be a size, an array, a mapping of columns, a pandas DataFrame or a Hugging Face Dataset. The last two are known
by their shape (`iloc`, `select`), so neither library is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from umbel.data.checks import whole_number
from umbel.errors import ConfigError

IntArray: TypeAlias = NDArray[np.int64]
AnyArray: TypeAlias = NDArray[np.generic]


@runtime_checkable
class Frame(Protocol):
    """A pandas DataFrame or Series, as far as we need one."""

    @property
    def iloc(self) -> Mapping[object, object]: ...
    def to_numpy(self) -> object: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: str, /) -> object: ...


@runtime_checkable
class RowSet(Protocol):
    """A Hugging Face Dataset, as far as we need one."""

    @property
    def column_names(self) -> list[str]: ...
    def select(self, indices: Iterable[int]) -> object: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: str, /) -> Sequence[object]: ...


Data: TypeAlias = "int | AnyArray | Sequence[object] | Mapping[str, AnyArray] | Frame | RowSet"
Labels: TypeAlias = "str | AnyArray | Sequence[object]"


@final
@dataclass(frozen=True, eq=False)
class Classes:
    """The class of every sample: `values[codes[i]]` is the label of sample i.

    Args:
        codes: int64 of shape (samples,), in 0 .. len(values) - 1.
        values: the distinct labels in ascending order.
    """

    codes: IntArray
    values: tuple[object, ...]


@final
@dataclass(frozen=True, eq=False)
class Samples:
    """The view of a data set that is handed to `Partitioner.assign`.

    Args:
        size: number of samples, at least 1.
        known_classes: the classes, or None when the data came without labels.
        column: reads a column by name as a 1-D array; raises ConfigError for data without columns.
    """

    size: int
    known_classes: Classes | None
    column: Callable[[str], AnyArray]

    def classes(self, wanted_by: str) -> Classes:
        """The classes, or the sentence that says how to give them."""
        if self.known_classes is None:
            raise ConfigError(
                f"{wanted_by} needs the label of every sample, got data without labels; allowed are a 1-D array of "
                "classes or labels=<array or column name>: try split(data, labels=y)"
            )
        return self.known_classes


def read_samples(data: Data, labels: Labels | None) -> Samples:
    """Find size and classes in any supported data."""
    size, column, own = _open(data)
    if size == 0:
        raise ConfigError("data must hold at least 1 sample, got 0; check the file or the filter that made it")
    if labels is None:
        return Samples(size, None if own is None else encode_classes(own), column)
    values = column(labels) if isinstance(labels, str) else as_array("labels", labels)
    if values.ndim != 1 or len(values) != size:
        raise ConfigError(
            f"labels must be one per sample, shape ({size},), got shape {values.shape}; "
            "try the labels of the same rows, argmax(axis=1) for one-hot labels"
        )
    return Samples(size, encode_classes(values), column)


def as_array(name: str, values: object) -> AnyArray:
    """`values` as an array, or a sentence when rows differ in length."""
    if isinstance(values, Frame):
        values = values.to_numpy()
    try:
        return cast(AnyArray, np.asarray(values))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{name} must form one array, got {type(values).__name__}: {error}; try equal row lengths"
        ) from None


def encode_classes(values: AnyArray) -> Classes:
    """Number the distinct labels in ascending order.

    Raises:
        ConfigError: a label is missing, labels are fractions, or their kinds cannot be ordered.
    """
    labels = _without_missing("labels", values)
    if labels.dtype.kind == "f":
        if not np.array_equal(labels, np.floor(labels)) or np.abs(labels).max(initial=0) >= 2**53:
            raise ConfigError(
                "labels must be classes (whole numbers, booleans or text), got fractions; "
                "for a continuous target try np.digitize(y, bins)"
            )
        labels = labels.astype(np.int64)
    return distinct("labels", labels)


def distinct(name: str, values: AnyArray) -> Classes:
    """Number the distinct values in ascending order; missing or incomparable values are refused."""
    clean = _without_missing(name, values)
    try:
        found, codes = np.unique(clean, return_inverse=True)
    except TypeError:
        raise ConfigError(
            f"{name} must be all numbers or all text, got a mixture; try [str(v) for v in {name}]"
        ) from None
    return Classes(codes.reshape(-1).astype(np.int64), tuple(found.tolist()))


def _without_missing(name: str, values: AnyArray) -> AnyArray:
    if values.dtype.kind == "O":
        missing = np.array([v is None or v != v for v in values.tolist()], dtype=bool)
    elif values.dtype.kind in "fc":
        missing = ~np.isfinite(values.astype(np.complex128))
    elif values.dtype.kind in "mM":
        missing = np.isnat(values)
    else:
        return values
    if missing.any():
        raise ConfigError(
            f"{name} must be given for every sample, got {int(missing.sum())} missing or infinite, the first at row "
            f"{int(np.argmax(missing))}; drop these rows or give them a class of their own"
        )
    return values


def _open(data: Data) -> tuple[int, Callable[[str], AnyArray], AnyArray | None]:
    """Size, column reader, and the data itself where it is a 1-D array of classes."""
    if isinstance(data, (int, np.integer)):
        return whole_number("data", data, minimum=0, hint="give a number of samples"), _no_columns, None
    if isinstance(data, Mapping):
        return _open_mapping(cast("Mapping[str, object]", data))
    if isinstance(data, Frame):
        names = [str(name) for name in getattr(data, "columns", ())]
        if getattr(data, "ndim", 2) == 1:
            return len(data), _no_columns, _if_classes(as_array("data", data))
        return len(data), _column_reader(names, lambda name: as_array(name, data[name])), None
    if isinstance(data, RowSet):
        return len(data), _column_reader(data.column_names, lambda name: np.asarray(data[name][:])), None
    array = as_array("data", data)
    if array.ndim == 0:
        raise ConfigError(
            f"data must hold samples along its first axis, got {data!r}; "
            "allowed are a size, an array, a mapping of columns, a DataFrame or a Dataset"
        )
    return len(array), _no_columns, _if_classes(array)


def _open_mapping(columns: Mapping[str, object]) -> tuple[int, Callable[[str], AnyArray], AnyArray | None]:
    if any(isinstance(column, RowSet) for column in columns.values()):
        raise ConfigError(
            f"data is a dictionary of data sets ({', '.join(columns)}); split one, try data[{next(iter(columns))!r}]"
        )
    arrays = {str(name): as_array(str(name), column) for name, column in columns.items()}
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r}: {length}" for name, length in lengths.items())
        raise ConfigError(f"columns must have one length, got {told}; try to cut or fill them first")
    return next(iter(lengths.values()), 0), _column_reader(list(arrays), arrays.__getitem__), None


def _if_classes(array: AnyArray) -> AnyArray | None:
    return array if array.ndim == 1 and array.dtype.kind in "biuUSO" else None


def _no_columns(name: str) -> AnyArray:
    raise ConfigError(
        f"column {name!r} was asked for, but the data has no named columns; "
        "allowed with a mapping, a DataFrame or a Dataset: give the array itself instead"
    )


def _column_reader(names: Sequence[str], read: Callable[[str], AnyArray]) -> Callable[[str], AnyArray]:
    def column(name: str) -> AnyArray:
        if name not in names:
            raise ConfigError(
                f"column {name!r} is not in the data, which has {', '.join(map(repr, names))}; try one of these"
            )
        return read(name)

    return column
