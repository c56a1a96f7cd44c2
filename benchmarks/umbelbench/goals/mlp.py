"""A perceptron of 159,010 parameters, 1,000 clients of 100 samples, 100 a round, batch 20: blocks, loops, peers."""

from umbelbench import entrants, rows
from umbelbench.check import require_agreement
from umbelbench.contest import race, ratios
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = TASK = "mlp"


def run(options: Options) -> list[Row]:
    contestants = [
        entrants.umbel("blocks", options, TASK),
        entrants.umbel("one by one", options, TASK, *entrants.ONE_BY_ONE),
        entrants.loop("loop by hand", options, TASK),
        *entrants.pfl(options, TASK),
        *entrants.flwr(options, TASK),
    ]
    results = race(contestants, pairs=options.pairs)
    off = {name: require_agreement(name, result, options.python, TASK) for name, result in results.items()}
    against = estimate(ratios(results["loop by hand"], results["blocks"]))
    found = [
        *rows.rounds(NAME, results, "100 a round", off),
        *rows.starts(NAME, results, "100 a round"),
        *rows.peaks(NAME, results, "100 a round"),
        Row(NAME, "loop by hand / umbel's blocks", against, at_least=1.0),
        Row(NAME, "loop by hand / umbel one by one", estimate(ratios(results["loop by hand"], results["one by one"]))),
    ]
    for name, wanted in (("pfl", 2.0), ("flwr", None)):
        if name in results:
            found.append(
                Row(
                    NAME,
                    f"{name} / umbel's blocks",
                    estimate(ratios(results[name], results["blocks"])),
                    at_least=wanted,
                )
            )
    return found
