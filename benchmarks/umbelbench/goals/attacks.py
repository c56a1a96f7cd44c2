"""Reducers under seven attacks of 4 of 20 clients: accuracy on digits, and the table of it in docs/robustness.md."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from statistics import median

from umbelbench import attacked
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "attacks"
PAGE = Path(__file__).parents[3] / "docs" / "robustness.md"
TABLE = re.compile(r"(?<=<!-- attacks -->\n).*?(?=<!-- end of attacks -->)", re.S)
QUICK = ("mean", "NNM + Krum")
SEEDS = range(1, 6)
"""Each has test pictures, a partition, batches and noise of its own."""
WORKERS = 2
Found = Mapping[str, Mapping[str, Sequence[float]]]


def run(options: Options) -> list[Row]:
    attacked.check()
    found = measured(QUICK if options.quick else tuple(attacked.REDUCERS), SEEDS[:1] if options.quick else SEEDS)
    if not options.quick:
        page = PAGE.read_text("utf-8")
        PAGE.write_text(TABLE.sub(lambda _: table(found), page), "utf-8")
    peaceful = found["mean"][attacked.NONE]
    kept = [100 * ours / best for ours, best in zip(worst(found["NNM + Krum"]), peaceful, strict=True)]
    share = "worst accuracy, NNM + Krum / accuracy of the mean without attackers"
    return [
        *(_row(name, accuracies) for name, accuracies in found.items()),
        Row(NAME, share, estimate(kept), "%", at_least=90.0),
    ]


def measured(reducers: Sequence[str], seeds: Sequence[int]) -> Found:
    cells = list(product(reducers, attacked.ATTACKS, seeds))
    with ProcessPoolExecutor(WORKERS) as pool:
        accuracies = iter(list(pool.map(attacked.accuracy, *zip(*cells, strict=True))))
    return {name: {attack: [next(accuracies) for _ in seeds] for attack in attacked.ATTACKS} for name in reducers}


def worst(accuracies: Mapping[str, Sequence[float]]) -> list[float]:
    """What each seed's worst attack leaves."""
    return [min(of_seed) for of_seed in zip(*accuracies.values(), strict=True)]


def _row(name: str, accuracies: Mapping[str, Sequence[float]]) -> Row:
    goals = {"NNM + Krum": {"at_least": 90.0}, "mean": {"at_most": 15.0}}
    facts = {attack: list(values) for attack, values in accuracies.items()}
    return Row(NAME, f"worst accuracy, {name}", estimate(worst(accuracies)), "%", facts=facts, **goals.get(name, {}))


def table(found: Found) -> str:
    """The median accuracies and their ranges over the seeds as a Markdown table, the worst of each reducer last."""
    lines = ["| reducer | " + " | ".join([*attacked.ATTACKS, "worst"]) + " |"]
    lines.append("|---|" + "---|" * (len(attacked.ATTACKS) + 1))
    for name, accuracies in found.items():
        cells = [_cell(values) for values in [*accuracies.values(), worst(accuracies)]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
