"""The records of a trace as they stand in a file: CSV, or Parquet where pyarrow is there."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from umbel.errors import ConfigError

COLUMNS = ("time", "client", "state")
Record = tuple[Any, Any, Any]


def records_in(file: Path) -> Iterator[Record]:
    """(time, client, state) of each row.

    Raises:
        ConfigError: it is no such table.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    return _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file)


def _csv(file: Path) -> Iterator[Record]:
    # Spreadsheets begin a file with a byte order mark, which would be part of the first column's name.
    with open(file, encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, strict=True)
        try:
            names = next(rows, list[str]())
            places = _places(names)
            for number, row in enumerate((row for row in rows if row), 1):
                if len(row) != len(names):
                    raise ConfigError(
                        f"record {number} has {len(row)} columns and the first line {len(names)}; give each record as "
                        'many, and put texts with commas in "quotes"'
                    )
                time_s, client, state = (row[place].strip() for place in places)
                yield time_s, client, state
        except csv.Error as error:
            raise ConfigError(f"line {rows.line_num} is no CSV ({error}); write time,client,state") from None


def _parquet(file: Path) -> Iterator[Record]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        arrow: Any = importlib.import_module("pyarrow")
    except ImportError:
        raise ConfigError("Parquet needs pyarrow; try: pip install 'umbel[parquet]', or write CSV") from None
    try:
        table: Any = parquet.read_table(file)
    except arrow.ArrowException as error:
        why = str(error).partition("\n")[0]
        raise ConfigError(f"it is no Parquet file that pyarrow can read ({why}); write it anew, or as CSV") from None
    places = _places(table.column_names)
    yield from zip(*(table.column(place).to_pylist() for place in places), strict=True)


def _places(names: Sequence[str]) -> list[int]:
    """Where the columns stand. Capitals and spaces around names mean nothing."""
    plain = [name.strip().casefold() for name in names]
    missing = next((name for name in COLUMNS if name not in plain), None)
    if missing is not None:
        raise ConfigError(f"it lacks the column {missing!r}; a trace has {', '.join(COLUMNS)}")
    twice = next((name for name in COLUMNS if plain.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"it has the column {twice!r} twice; a trace has {', '.join(COLUMNS)}, each once")
    return [plain.index(name) for name in COLUMNS]
