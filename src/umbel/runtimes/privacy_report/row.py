"""`Row`: what one look at a run's protection showed, and the control without which it would show nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final

from umbel.runtimes.privacy_report.picture import Picture

Level: TypeAlias = Literal["A0", "A1", "A2", "A3", "A4"]
MEND = "do not run it: the noise or the bounds are not what the accountant counts on; report it with this page"
Verdict: TypeAlias = Literal["passed", "weak", "failed", "not shown", "skipped"]

TITLES: Mapping[Level, str] = {
    "A0": "Plan",
    "A1": "Calibration of the aggregator",
    "A2": "What the server sees",
    "A3": "Who was trained on",
    "A4": "Pictures from gradients",
}


@final
@dataclass(frozen=True)
class Control:
    """The same attack where it has to work.

    Attributes:
        works: whether it did.
        text: what was seen, in a sentence.
    """

    works: bool
    text: str


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """What one look showed.

    Attributes:
        verdict: "passed"; "weak" (kept, but not worth much); "failed"; "not shown" (an attack found nothing, but its
            control found nothing either); "skipped" (was not looked at, and why).
        text: what was seen, in a sentence.
        mend: what to do about it; empty where nothing is to be done.
        control: of an attack.
        numbers: what was measured.
    """

    level: Level
    name: str
    verdict: Verdict
    text: str
    mend: str = ""
    control: Control | None = None
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    pictures: tuple[Picture, ...] = ()

    @property
    def is_problem(self) -> bool:
        """Whether it keeps the report from saying that everything holds."""
        return self.verdict in ("failed", "not shown")

    def plain(self) -> dict[str, Any]:
        """As plain data, without pictures."""
        control = None if self.control is None else {"works": self.control.works, "text": self.control.text}
        return {
            "level": self.level,
            "name": self.name,
            "verdict": self.verdict,
            "text": self.text,
            "mend": self.mend,
            "control": control,
            "numbers": {name: float(f"{value:.6g}") for name, value in self.numbers.items()},
        }


def faults(count: int, missed: Sequence[str]) -> Control:
    """The control of a measurement: faults that were put in, of which these were not found."""
    text = f"of {count} faults that were put in, {count - len(missed)} were found"
    return Control(not missed, text + (f"; not found: {', '.join(missed)}" if missed else ""))


def attacked(
    level: Level,
    name: str,
    *,
    holds: bool,
    control: Control,
    text: str,
    mend: str,
    numbers: Mapping[str, float] | None = None,
    pictures: tuple[Picture, ...] = (),
) -> Row:
    """The row of an attack: one that found nothing shows something only where its control found what it had to.

    Args:
        holds: whether the attack found nothing.
        mend: what to do if it did.
    """
    verdict: Verdict = "failed" if not holds else "passed" if control.works else "not shown"
    if verdict == "not shown":
        mend = "its control did not work, so that the attack found nothing says nothing"
    return Row(
        level=level,
        name=name,
        verdict=verdict,
        text=text,
        mend="" if verdict == "passed" else mend,
        control=control,
        numbers=numbers or {},
        pictures=pictures,
    )


def counted_on(
    name: str,
    text: str,
    problems: Sequence[str],
    *,
    control: Control,
    numbers: Mapping[str, float],
    pictures: tuple[Picture, ...] = (),
) -> Row:
    """The row of a measurement that has to be what the accountant counts on.

    Args:
        text: what was measured.
        problems: what of it is not so.
    """
    return attacked(
        "A1",
        name,
        holds=not problems,
        control=control,
        text="; ".join([text, *problems]),
        mend=MEND,
        numbers=numbers,
        pictures=pictures,
    )
