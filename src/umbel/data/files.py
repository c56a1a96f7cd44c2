"""Read a data file the user has: NPZ, Parquet, or anything we know by its suffix."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from umbel.data.csv_table import load_csv
from umbel.data.idx import load_idx
from umbel.data.samples import AnyArray
from umbel.data.table import Table
from umbel.errors import ConfigError


class ArrowColumn(Protocol):
    """A column of an Arrow table, as far as we need one."""

    def to_numpy(self) -> AnyArray: ...


class ArrowTable(Protocol):
    """An Arrow table, as far as we need one."""

    @property
    def column_names(self) -> list[str]: ...
    def column(self, name: str, /) -> ArrowColumn: ...


def load(path: str | Path, *, target: str | None = None) -> AnyArray | dict[str, AnyArray] | Table:
    """Read a data file by its suffix.

    Args:
        path: .csv or .tsv (a `Table`), .parquet (a `Table`), .npz (arrays by name), IDX as .idx, .gz, -ubyte (array).
        target: the column to predict; tables only.

    Returns:
        What the reader of that format returns.

    Raises:
        ConfigError: an unknown suffix, a target where there are no columns, or what the reader refuses.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "arrays.npz"
        ...     np.savez(file, x=np.zeros((2, 3)))
        ...     load(file)["x"].shape
        (2, 3)
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return load_csv(file, target=target, delimiter="," if suffix == ".csv" else "\t")
    if suffix in (".parquet", ".pq"):
        return load_parquet(file, target=target)
    if target is not None:
        raise ConfigError(
            f"target={target!r} needs a table (.csv, .tsv, .parquet), got {file.name!r}; leave target out"
        )
    if suffix == ".npz":
        return load_npz(file)
    if suffix in (".idx", ".gz") or file.name.endswith("ubyte"):
        return load_idx(file)
    raise ConfigError(
        f"{file}: unknown suffix {suffix!r}; allowed are .csv, .tsv, .parquet, .npz, .idx, .gz and names ending "
        "in ubyte: rename the file or call its reader, e.g. load_csv(path)"
    )


def load_npz(path: str | Path) -> dict[str, AnyArray]:
    """Read all arrays of an NPZ file; pickled objects are refused.

    Args:
        path: the file, as `numpy.savez` writes it.

    Returns:
        Name → array.

    Raises:
        ConfigError: no such file, not NPZ, damaged, or with an array of Python objects.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "arrays.npz"
        ...     np.savez(file, y=np.arange(3))
        ...     load_npz(file)
        {'y': array([0, 1, 2])}
    """
    file = Path(path)
    try:
        if not zipfile.is_zipfile(file):
            _must_exist(file)
            raise ConfigError(f"{file}: not an NPZ file, or cut short; write it with np.savez(path, x=x, y=y)")
        # Opened here: np.load leaves a file of its own open when the archive is damaged.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: _plain(file, name, arrays[name]) for name in arrays.files}
    except (ValueError, EOFError, KeyError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{file}: damaged, or holds Python objects ({error}); only plain arrays are allowed: write it again "
            "with np.savez"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; an NPZ file is needed, check the path") from None


def load_parquet(path: str | Path, *, target: str | None = None) -> Table:
    """Read a Parquet file into NumPy columns; missing numbers become NaN, missing text "".

    Args:
        path: the file.
        target: the column to predict.

    Returns:
        A `Table`.

    Raises:
        ConfigError: pyarrow is not installed, no such file or column, or not Parquet.
    """
    try:
        import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise ConfigError(
            "load_parquet() needs pyarrow, which is not installed; try: pip install 'umbel[parquet]'"
        ) from None
    file = Path(path)
    _must_exist(file)
    try:
        read = cast(ArrowTable, pq.read_table(file))  # pyright: ignore[reportUnknownMemberType]
    except (ValueError, NotImplementedError, OSError) as error:  # what Arrow's own errors derive from
        raise ConfigError(f"{file}: not a Parquet file, or damaged ({error}); write it again") from None
    columns = {name: _column(read.column(name).to_numpy()) for name in read.column_names}
    if target is not None and target not in columns:
        raise ConfigError(
            f"column {target!r} is not in {file}, which has {', '.join(map(repr, columns))}; try one of these"
        )
    return Table(columns, target)


def _column(array: AnyArray) -> AnyArray:
    """An Arrow column as a NumPy array; text as NumPy text rather than objects."""
    if array.dtype.kind != "O":
        return array
    values = cast("list[object]", array.tolist())
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present):
        return np.array([np.nan if value is None else float(value is True) for value in values])
    if all(isinstance(value, str) for value in present):
        return np.array(["" if value is None else value for value in values], dtype=np.str_)
    return array


def _plain(file: Path, name: str, value: object) -> AnyArray:
    if not isinstance(value, np.ndarray):
        raise ConfigError(
            f"{file}: {name!r} is not an array; an NPZ file holds .npy arrays only: write it with np.savez"
        )
    return cast(AnyArray, value)


def _must_exist(file: Path) -> None:
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; check the path (relative paths start at {Path.cwd()})")
