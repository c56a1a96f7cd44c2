"""What a benchmark hands back: one row per goal."""

from dataclasses import asdict, dataclass, field
from typing import Any

from umbelbench.intervals import Estimate


@dataclass(frozen=True)
class Row:
    """One measured quantity, its goal if it has one, and the facts behind it.

    A goal is met when the interval reaches it. `bounded` names the quantities that `--quick` guards against twofold
    regressions; these must be ratios, since absolute times differ between machines.
    """

    bench: str
    quantity: str
    measured: Estimate
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    bounded: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.at_least is not None:
            return self.measured.high >= self.at_least
        if self.at_most is not None:
            return self.measured.low <= self.at_most
        return None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| benchmark | quantity | median | 95 % interval | n | goal | met |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        e = row.measured
        goal = f">= {row.at_least:g}" if row.at_least is not None else ""
        goal = f"<= {row.at_most:g}" if row.at_most is not None else goal
        met = {True: "yes", False: "NO", None: ""}[row.met]
        interval = f"{e.low:.4g} to {e.high:.4g}" if e.pairs > 1 else ""
        cells = [row.bench, row.quantity, f"{e.median:.4g} {row.unit}".strip(), interval, str(e.pairs), goal, met]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
