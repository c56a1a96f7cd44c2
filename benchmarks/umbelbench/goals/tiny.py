"""Logistic regression with 20 samples a client, 1,000 and 10,000 a round: blocks against the hand-written floor."""

from umbelbench import entrants, rows
from umbelbench.contest import Contestant, race, ratios
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options
from umbelbench.tiny import require_agreement

NAME = "tiny"
FLOOR = "umbelbench.contestants.floor_tiny"


def run(options: Options) -> list[Row]:
    found: list[Row] = []
    for cohort in (1_000,) if options.quick else (1_000, 10_000):
        found += _cohort(options, cohort)
    return found


def _cohort(options: Options, cohort: int) -> list[Row]:
    size = ("--cohort", str(cohort))
    contestants = [
        Contestant("floor", options.python, FLOOR, size),
        entrants.umbel("blocks", options, "tiny", *size),
        entrants.umbel("linear blocks", options, "tiny", *size, "--form", "linear"),
        entrants.umbel("blocks of built clients", options, "tiny", *size, "--form", "built"),
    ]
    if cohort <= 1_000:
        contestants.append(entrants.umbel("one by one", options, "tiny", *size, *entrants.ONE_BY_ONE))
    results = race(contestants, pairs=5 if options.quick else options.pairs)
    off = {name: require_agreement(name, result) for name, result in results.items()}
    label = f"{cohort} a round"
    efficiency = estimate(ratios(results["floor"], results["blocks"]))
    return [
        *rows.rounds(NAME, results, label, off),
        *rows.peaks(NAME, results, label),
        Row(NAME, f"efficiency: floor / blocks, {label}", efficiency, at_least=0.8, bounded=True),
        Row(
            NAME,
            f"floor / linear blocks (NumPy), {label}",
            estimate(ratios(results["floor"], results["linear blocks"])),
        ),
    ]
