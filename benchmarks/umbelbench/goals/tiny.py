"""Logistic regression with 20 samples a client, 1,000 and 10,000 a round: blocks against the hand-written floor."""

from umbelbench.contest import Contestant, race, ratios
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options
from umbelbench.tiny import require_agreement

NAME = "tiny"
FLOOR, UMBEL = "umbelbench.contestants.floor_tiny", "umbelbench.contestants.umbel_tiny"


def run(options: Options) -> list[Row]:
    rows: list[Row] = []
    for cohort in (1_000,) if options.quick else (1_000, 10_000):
        rows += _cohort(options, cohort)
    return rows


def _cohort(options: Options, cohort: int) -> list[Row]:
    size = ("--cohort", str(cohort))
    contestants = [
        Contestant("floor", options.python, FLOOR, size),
        Contestant("blocks", options.python, UMBEL, (*size, "--form", "source")),
        Contestant("blocks of built clients", options.python, UMBEL, (*size, "--form", "built")),
    ]
    if cohort <= 1_000:
        contestants.append(
            Contestant("one by one", options.python, UMBEL, (*size, "--form", "built", "--engine", "pool"))
        )
    results = race(contestants, pairs=5 if options.quick else options.pairs)
    rows = [
        Row(
            NAME,
            f"{name}, {cohort} a round",
            estimate(result.seconds),
            "s/round",
            facts={"seconds": result.seconds, "off": require_agreement(name, result)},
        )
        for name, result in results.items()
    ]
    efficiency = estimate(ratios(results["floor"], results["blocks"]))
    rows.append(Row(NAME, f"efficiency: floor / blocks, {cohort} a round", efficiency, at_least=0.8, bounded=True))
    return rows
