"""Ragged clients: a perceptron, 500 a round, 1 to 500 samples a client (lognormal), batch 20; blocks, pfl, Flower.

With 159,010 parameters the arithmetic decides, with 3,610 the handling of clients.
"""

from umbelbench import entrants, rows
from umbelbench.check import require_agreement
from umbelbench.contest import race, ratios
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "ragged"
SIZES = {"ragged": "159,010 parameters", "ragged-small": "3,610 parameters"}
FLWR_CLIENTS = 500  # its rounds grow with the clients that are registered


def run(options: Options) -> list[Row]:
    return [row for task, label in SIZES.items() for row in _against(options, task, label)]


def _against(options: Options, task: str, label: str) -> list[Row]:
    contestants = [
        entrants.umbel("blocks", options, task),
        entrants.umbel("one by one", options, task, *entrants.ONE_BY_ONE),
        *entrants.pfl(options, task),
        *entrants.flwr(options, task, "--clients", str(FLWR_CLIENTS), "--cohort", "500"),
    ]
    results = race(contestants, pairs=options.pairs)
    off = {name: require_agreement(name, result, options.python, task) for name, result in results.items()}
    found = [
        *rows.rounds(NAME, results, label, off),
        *rows.starts(NAME, results, label),
        *rows.peaks(NAME, results, label),
    ]
    for name, wanted in (("pfl", 5.0), ("flwr", None)):
        if name in results:
            quotient = estimate(ratios(results[name], results["blocks"]))
            found.append(Row(NAME, f"{name} / umbel, {label}", quotient, at_least=wanted))
    return found
