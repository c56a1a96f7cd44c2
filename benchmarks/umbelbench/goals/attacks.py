"""Reducers under seven attacks of 4 of 20 clients: accuracy on digits, and the table of it in docs/robustness.md."""

import re
from collections.abc import Mapping
from pathlib import Path

from umbelbench import attacked
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "attacks"
PAGE = Path(__file__).parents[3] / "docs" / "robustness.md"
TABLE = re.compile(r"(?<=<!-- attacks -->\n).*?(?=<!-- end of attacks -->)", re.S)
QUICK = ("mean", "NNM + Krum")
Found = Mapping[str, Mapping[str, float]]


def run(options: Options) -> list[Row]:
    names = QUICK if options.quick else attacked.REDUCERS
    found = {
        name: {attack: attacked.accuracy(attacked.REDUCERS[name], attack) for attack in attacked.ATTACKS}
        for name in names
    }
    if not options.quick:
        page = PAGE.read_text("utf-8")
        PAGE.write_text(TABLE.sub(lambda _: table(found), page), "utf-8")
    return [_row(name, accuracies) for name, accuracies in found.items()]


def _row(name: str, accuracies: Mapping[str, float]) -> Row:
    goals = {"NNM + Krum": {"at_least": 90.0}, "mean": {"at_most": 15.0}}
    worst = estimate([min(accuracies.values())])
    return Row(NAME, f"worst accuracy, {name}", worst, "%", facts=dict(accuracies), **goals.get(name, {}))


def table(found: Found) -> str:
    """The accuracies as a Markdown table, the worst of each reducer last."""
    lines = ["| reducer | " + " | ".join([*attacked.ATTACKS, "worst"]) + " |"]
    lines.append("|---|" + "---|" * (len(attacked.ATTACKS) + 1))
    for name, accuracies in found.items():
        cells = [f"{value:.1f}" for value in [*accuracies.values(), min(accuracies.values())]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
