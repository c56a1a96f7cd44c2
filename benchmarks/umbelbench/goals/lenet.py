"""LeNet, 1,000 clients x 50 samples, 100 a round, batch 10: efficiency against the hand-written floor."""

from umbelbench.check import require_agreement
from umbelbench.contest import Contestant, race, ratios
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "lenet"
FLOOR, UMBEL = "umbelbench.contestants.floor", "umbelbench.contestants.umbel_sim"


def run(options: Options) -> list[Row]:
    pairs = 5 if options.quick else options.pairs
    contestants = [
        Contestant("floor", options.python, FLOOR, ("--client", "flat")),
        Contestant("umbel", options.python, UMBEL, ("--work", "torch")),
        Contestant("floor-user", options.python, FLOOR, ("--client", "user")),
        Contestant("umbel-user", options.python, UMBEL, ("--work", "user")),
    ]
    results = race(contestants, pairs=pairs)
    off = {"umbel": require_agreement("umbel", results["umbel"], options.python)}
    if not options.quick:
        off["floor"] = require_agreement("floor", results["floor"], options.python)
    rows = [
        Row(NAME, name, estimate(result.seconds), "s/round", facts={"seconds": result.seconds, "off": off.get(name)})
        for name, result in results.items()
    ]
    inside = estimate(ratios(results["floor"], results["umbel"]))
    opaque = estimate(ratios(results["floor-user"], results["umbel-user"]))
    rows.append(Row(NAME, "efficiency: floor / umbel", inside, at_least=0.9, bounded=True))
    rows.append(Row(NAME, "efficiency of a user's loop: outside / inside umbel", opaque, at_least=0.85, bounded=True))
    return rows
