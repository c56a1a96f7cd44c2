"""A small CSV reader that finds out the type of each column."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from umbel.data.samples import AnyArray
from umbel.data.table import Table
from umbel.errors import ConfigError

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "?")
# A leading zero marks a code (postcode, patient number), not a number: "007" stays text.
WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)\Z")
REAL = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
TRUTH = {"true": True, "false": False}


def load_csv(
    path: str | Path,
    *,
    target: str | None = None,
    missing: Sequence[str] = MISSING,
    delimiter: str = ",",
    text: Sequence[str] = (),
) -> Table:
    """Read a CSV file (UTF-8, first line names the columns) into typed NumPy columns.

    A column is int64 if all its values are whole numbers, float64 if all are numbers (NaN where one is missing), bool
    if all are true or false (float64 with 1, 0 and NaN if one is missing), else text ("" where one is missing).

    Args:
        path: the file.
        target: the column to predict.
        missing: what stands for a missing value, after blanks around it are dropped.
        delimiter: one character.
        text: columns that stay text whatever they hold.

    Returns:
        A `Table`.

    Raises:
        ConfigError: no such file or column, names repeated, a line with too few or too many values, or not UTF-8 text.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "patients.csv"
        ...     _ = file.write_text("age,site,sick\\n63,north,TRUE\\n,south,FALSE\\n")
        ...     table = load_csv(file, target="sick")
        >>> table["age"].tolist(), table["site"].tolist(), table.labels.tolist()
        ([63.0, nan], ['north', 'south'], [True, False])
    """
    file = Path(path)
    if len(delimiter) != 1:
        raise ConfigError(f"delimiter must be one character, got {delimiter!r}; try ',' or ';' or '\\t'")
    names, lines = _read_lines(file, delimiter)
    gaps = frozenset(missing)
    columns = {name: _typed([line[i] for line in lines], gaps, as_text=name in text) for i, name in enumerate(names)}
    for name in (*text, *(() if target is None else (target,))):
        if name not in columns:
            raise ConfigError(
                f"column {name!r} is not in {file}, which has {', '.join(map(repr, names))}; try one of these"
            )
    return Table(columns, target)


def _read_lines(file: Path, delimiter: str) -> tuple[list[str], list[list[str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            names = [name.strip() for name in next(reader, list[str]())]
            _check_names(names, file)
            lines: list[list[str]] = []
            for line in reader:
                if not line:
                    continue
                if len(line) != len(names):
                    raise ConfigError(
                        f"{file}, line {reader.line_num}: {len(line)} values for {len(names)} columns; "
                        "every line needs one value per column: check quotes and the delimiter"
                    )
                lines.append([value.strip() for value in line])
            return names, lines
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8 CSV"
        ) from None
    except csv.Error as error:
        raise ConfigError(f"{file}: not readable as CSV ({error}); check quotes and the delimiter") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; a CSV file is needed, check the path") from None


def _check_names(names: Sequence[str], file: Path) -> None:
    if not names:
        raise ConfigError(f"{file}: empty; the first line must name the columns")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or "" in names:
        told = f"{repeated[0]!r} twice" if repeated else "a column without name"
        raise ConfigError(f"{file}: the first line has {told}; every column needs a name of its own, rename it")


def _typed(values: list[str], gaps: frozenset[str], *, as_text: bool) -> AnyArray:
    present = [value for value in values if value not in gaps]
    full = len(present) == len(values)
    if as_text:
        return np.array(values, dtype=np.str_)
    if full and present and all(WHOLE.match(value) for value in present) and _fits_int64(present):
        return np.array([int(value) for value in present], dtype=np.int64)
    if all(REAL.match(value) and math.isfinite(float(value)) for value in present):
        return np.array([math.nan if value in gaps else float(value) for value in values], dtype=np.float64)
    if all(value.lower() in TRUTH for value in present):
        if full:
            return np.array([TRUTH[value.lower()] for value in values], dtype=np.bool_)
        return np.array(
            [math.nan if value in gaps else float(TRUTH[value.lower()]) for value in values], dtype=np.float64
        )
    return np.array(["" if value in gaps else value for value in values], dtype=np.str_)


def _fits_int64(values: Sequence[str]) -> bool:
    return all(len(value) < 19 or (len(value) <= 20 and -(2**63) <= int(value) < 2**63) for value in values)
