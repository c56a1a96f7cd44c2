"""`Trace`: when clients were there, as somebody has recorded it."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, final

from umbel.errors import ConfigError
from umbel.message import is_number, require
from umbel.runtimes.system.availability import NEVER
from umbel.runtimes.system.draws import uniform
from umbel.runtimes.system.records import COLUMNS, records_in

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
        period_s: after which the trace begins anew, no sooner than its last record; None lets each device stay as it
            was at the end.

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
        if not isinstance(cast("object", records), Iterable) or isinstance(records, (str, bytes)):
            raise ConfigError(
                f"records must be a list of ({', '.join(COLUMNS)}), got {records!r}; try Trace.read(path)"
            )
        digest = hashlib.sha256()
        changes: dict[str, list[tuple[float, bool]]] = {}
        last_s = 0.0
        for number, record in enumerate(records, 1):
            fields = cast("object", record)
            if isinstance(fields, (str, bytes)) or not isinstance(fields, Sized) or len(fields) != len(COLUMNS):
                raise ConfigError(f"record {number} must be ({', '.join(COLUMNS)}), got {record!r}")
            time_s, client, on = _checked(number, *record)
            changes.setdefault(client, []).append((time_s, on))
            last_s = max(last_s, time_s)
        require(
            period_s is None or last_s <= period_s,
            f"period_s must not be less than the time of the last record, which is {last_s!r}, got {period_s!r}; leave "
            f"later records out, or try period_s={last_s!r}",
        )
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
        require(
            isinstance(path, (str, Path)),  # pyright: ignore[reportUnnecessaryIsInstance]
            f'path must be the name of a CSV or Parquet file, got {path!r}; try Trace.read("trace.csv")',
        )
        file = Path(path)
        try:
            return cls.of(records_in(file), period_s=period_s)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the trace {file} cannot be read: {error}") from None
        except ConfigError as error:
            raise ConfigError(f"the trace {file}: {error}") from None

    def notes(self, num_clients: int) -> list[str]:
        """What to say before the first round if names look as if they were meant for clients "0", "1", … and are not.

        A trace all of whose names are foreign is of another population, whose devices are dealt out on purpose.
        """
        ours = {name for name in self.windows if _is_client(name, num_clients)}
        others = sorted(self.windows.keys() - ours)
        if not others:
            return []
        known = f'clients are "0" to "{num_clients - 1}"'
        if ours:
            return [
                f"the trace names {len(ours)} of the {num_clients} clients and {len(others)} others, such as "
                f"{others[0]!r}; {known}, and those that it does not name are dealt a device of either kind"
            ]
        if all(_is_numeral(name) for name in others):
            return [
                f"the trace's names look like numbers of clients, such as {others[0]!r}, and none is one: {known}; "
                "every client is dealt a device of the trace, so write the ids as whole numbers if they were meant"
            ]
        return []

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


def _is_client(name: str, num_clients: int) -> bool:
    return name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) < num_clients


def _is_numeral(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _check_period(period_s: float | None) -> None:
    fine = period_s is None or (is_number(period_s) and 0 < period_s < math.inf)
    require(fine, f"period_s must be above 0 or None, got {period_s!r}; try 86400.0, or None, which never repeats")


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
    name = str(client).strip()
    if client is None or client != client or not name:  # NaN is what pandas reads an empty field as
        raise ConfigError(f"record {number}: client must be an id such as '7', got {client!r}; leave such records out")
    return seconds, name, word in ON
