"""`Trace`: when clients were there, as somebody has recorded it."""

from __future__ import annotations

import csv
import hashlib
import importlib
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from umbel.errors import ConfigError
from umbel.message import is_number, require
from umbel.runtimes.system.availability import NEVER
from umbel.runtimes.system.draws import uniform

COLUMNS = ("time", "client", "state")
ON = frozenset({"1", "true", "on", "online", "available", "yes"})
OFF = frozenset({"0", "false", "off", "offline", "unavailable", "no"})
Window = tuple[float, float]


@final
@dataclass(frozen=True)
class Trace:
    """Windows of time in which recorded devices were there. A client of a recorded name is that device; any other is
    one of them, chosen by (seed, client), so that a short trace serves a large population.

    Args:
        digest: of the records, which is what a plan keeps of a trace.
        windows: device → its windows (begin, end) in seconds, in order.
        period_s: after which the trace begins anew; None lets each device stay as it was at the end.

    Example:
        >>> trace = Trace.of([(0, "a", "on"), (60, "a", "off"), (90, "a", "on"), (120, "a", "off")])
        >>> trace.window("a", 75.0, seed=1)
        (90.0, 120.0)
    """

    digest: str
    windows: Mapping[str, tuple[Window, ...]] = field(repr=False, metadata={"plan": False})
    period_s: float | None = None

    def __post_init__(self) -> None:
        require(len(self.windows) > 0, "a trace needs at least one client, got none")
        _check_period(self.period_s)
        object.__setattr__(self, "_names", sorted(self.windows))

    @classmethod
    def of(cls, records: Iterable[tuple[Any, Any, Any]], *, period_s: float | None = None) -> Trace:
        """A trace from records (time in seconds, client, state), in any order. States are on or off, 1 or 0, true or
        false, online or offline, available or unavailable.

        Raises:
            ConfigError: a record is none; it is named by its number.
        """
        _check_period(period_s)
        digest = hashlib.sha256()
        changes: dict[str, list[tuple[float, bool]]] = {}
        for number, record in enumerate(records, 1):
            if len(record) != len(COLUMNS):
                raise ConfigError(f"record {number} must be ({', '.join(COLUMNS)}), got {record!r}")
            time_s, client, on = _checked(number, *record)
            changes.setdefault(client, []).append((time_s, on))
        for client in sorted(changes):
            changes[client].sort(key=lambda change: change[0])
            digest.update(repr((client, changes[client])).encode())
        windows = {client: _joined(tuple(_windows(found, period_s)), period_s) for client, found in changes.items()}
        return cls(digest.hexdigest(), windows, period_s)

    @classmethod
    def read(cls, path: str | Path, *, period_s: float | None = None) -> Trace:
        """A trace from a CSV file, or a Parquet file if pyarrow is there, with the columns time, client and state.

        Raises:
            ConfigError: it cannot be read, or lacks a column.
        """
        file = Path(path)
        try:
            records = _parquet(file) if file.suffix == ".parquet" else _csv(file)
            return cls.of(records, period_s=period_s)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the trace {file} cannot be read: {error}") from None
        except ConfigError as error:
            raise ConfigError(f"the trace {file}: {error}") from None

    def window(self, client: str, time_s: float, seed: int) -> Window:
        own = self.windows.get(client)
        if own is None:
            names: list[str] = object.__getattribute__(self, "_names")
            own = self.windows[names[int(uniform(seed, "system", "device", client) * len(names))]]
        if not own:
            return NEVER
        if self.period_s is None:
            return _next(own, time_s, 0.0) or NEVER
        period = math.floor(time_s / self.period_s)
        # A window may reach into the next period, so the one before is looked at, too.
        return next(filter(None, (_next(own, time_s, self.period_s * n) for n in range(period - 1, period + 2))), NEVER)


def _check_period(period_s: float | None) -> None:
    fine = period_s is None or (is_number(period_s) and period_s > 0)
    require(fine, f"period_s must be above 0 or None, got {period_s!r}")


def _next(windows: tuple[Window, ...], time_s: float, shift: float) -> Window | None:
    """The first window that ends after `time_s`, all of them being `shift` later."""
    place = bisect_right(windows, time_s - shift, key=lambda window: window[1])
    return None if place == len(windows) else (windows[place][0] + shift, windows[place][1] + shift)


def _joined(windows: tuple[Window, ...], period_s: float | None) -> tuple[Window, ...]:
    """The same windows, with one that lasts over the end of the period as one."""
    if not windows or windows[0][0] > 0 or windows[-1][1] != period_s:
        return windows
    if len(windows) == 1:
        return ((-math.inf, math.inf),)
    return (*windows[1:-1], (windows[-1][0], windows[-1][1] + windows[0][1]))


def _windows(changes: Iterable[tuple[float, bool]], period_s: float | None) -> Iterator[Window]:
    begin: float | None = None
    last_s = math.inf if period_s is None else period_s
    for time_s, on in changes:
        if on and begin is None:
            begin = time_s
        elif not on and begin is not None:
            if time_s > begin:
                yield begin, min(time_s, last_s)
            begin = None
    if begin is not None and begin < last_s:
        yield begin, last_s


def _checked(number: int, time_s: Any, client: Any, state: Any) -> tuple[float, str, bool]:
    try:
        seconds = float(time_s)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"record {number}: time must be seconds of at least 0, got {time_s!r}")
    word = str(state).strip().lower()
    if word not in ON | OFF:
        raise ConfigError(f"record {number}: state must be one of {', '.join(sorted(ON | OFF))}, got {state!r}")
    return seconds, str(client), word in ON


def _csv(file: Path) -> Iterator[tuple[Any, Any, Any]]:
    with open(file, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        _has_columns(reader.fieldnames or ())
        for row in reader:
            yield row["time"], row["client"], row["state"]


def _parquet(file: Path) -> Iterator[tuple[Any, Any, Any]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigError("Parquet needs pyarrow; try: pip install 'umbel[parquet]', or write CSV") from None
    table: Any = parquet.read_table(file)
    _has_columns(table.column_names)
    yield from zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True)


def _has_columns(names: Iterable[str]) -> None:
    missing = [name for name in COLUMNS if name not in set(names)]
    if missing:
        raise ConfigError(f"it lacks the column {missing[0]!r}; a trace has {', '.join(COLUMNS)}")
