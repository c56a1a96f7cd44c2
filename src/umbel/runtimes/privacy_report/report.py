"""`Report`: the rows of some levels, as signed data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, final

from umbel.runtimes.privacy_report.row import Level, Row
from umbel.runtimes.privacy_report.subject import Subject
from umbel.stores.link import canonical

if TYPE_CHECKING:
    from umbel.audit.key import LogKey

KIND = "privacy_report"
FORMAT = 1
QUICK: tuple[Level, ...] = ("A0", "A1", "A2")
"""The levels that take seconds."""
_OF_SIGNATURE = ("key", "signature", "certificate")
Look: TypeAlias = Callable[[Subject], Iterator[Row]]


@final
@dataclass(frozen=True)
class Report:
    """What was seen of one run or plan.

    Attributes:
        about: what it is about: app, digest, run, levels, version, and when (`at_s`, Unix time).
    """

    about: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def problems(self) -> tuple[Row, ...]:
        """The rows that keep it from saying that everything holds."""
        return tuple(row for row in self.rows if row.is_problem)

    def signed(self, key: LogKey | None) -> dict[str, Any]:
        """As plain data, with a signature over `report_bytes` if there is a key."""
        rows = [_finite(row.plain()) for row in self.rows]
        data = {"format": FORMAT, "kind": KIND, **self.about, "holds": not self.problems, "rows": rows}
        if key is None:
            return data
        data |= {"key": key.public, "signature": key.sign(report_bytes(data))}
        return data | ({"certificate": key.certificate} if key.certificate else {})


def report_bytes(data: Mapping[str, Any]) -> bytes:
    """What the signature of a report is over: all of it but the signature."""
    return b"umbel privacy report 1\n" + canonical({name: data[name] for name in data if name not in _OF_SIGNATURE})


def look(subject: Subject, levels: Sequence[Level], *, version: str, at_s: int) -> Report:
    """Look at these levels of a subject, in their order."""
    about = {
        "app": subject.app.name,
        "digest": subject.app.digest,
        "settings": dict(subject.settings),
        "run": subject.id,
        "levels": sorted(set(levels)),
        "version": version,
        "at_s": at_s,
    }
    rows = [row for level in sorted(set(levels)) for row in _look_of(level)(subject)]
    return Report(about, tuple(rows))


def _look_of(level: Level) -> Look:
    """What a level does; only then is imported what it needs."""
    if level == "A0":
        from umbel.runtimes.privacy_report.lint import lint

        return lint
    if level == "A1":
        from umbel.runtimes.privacy_report.calibrating import calibration

        return calibration
    if level == "A2":
        from umbel.runtimes.privacy_report.seen import server_view

        return server_view
    if level == "A3":
        from umbel.runtimes.privacy_report.trained_on import trained_on

        return trained_on
    from umbel.runtimes.privacy_report.inversion import inversion

    return inversion


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinite numbers."""
    numbers = {name: value if math.isfinite(value) else None for name, value in data["numbers"].items()}
    return {**data, "numbers": numbers}
