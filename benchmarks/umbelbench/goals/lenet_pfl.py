"""The same LeNet against pfl. Needs its interpreter."""

from umbelbench import entrants, rows
from umbelbench.check import require_agreement
from umbelbench.contest import race, ratios
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME, TASK = "lenet_pfl", "lenet"


def run(options: Options) -> list[Row]:
    peers = entrants.pfl(options, TASK)
    if not peers:
        return []
    results = race([entrants.umbel("umbel", options, TASK, *entrants.ONE_BY_ONE), *peers], pairs=options.pairs)
    off = {name: require_agreement(name, result, options.python, TASK) for name, result in results.items()}
    return [
        *rows.rounds(NAME, results, "100 a round", off),
        *rows.starts(NAME, results, "100 a round"),
        *rows.peaks(NAME, results, "100 a round"),
        Row(NAME, "pfl / umbel", estimate(ratios(results["pfl"], results["umbel"])), at_least=1.05),
    ]
