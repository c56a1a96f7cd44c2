"""The same LeNet against Flower's simulation. Needs the peer's interpreter.

`run_simulation` is the peer's present way, `start_simulation` its older and deprecated one; both are measured.
"""

from umbelbench.check import require_agreement
from umbelbench.contest import Contestant, race, ratios
from umbelbench.goal import Row
from umbelbench.goals.lenet import UMBEL
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "lenet_flwr"
FLWR = "umbelbench.contestants.flwr_sim"


def run(options: Options) -> list[Row]:
    if options.flwr_python is None or options.quick:
        return []
    contestants = [
        Contestant("umbel", options.python, UMBEL, ("--work", "torch")),
        Contestant("umbel-user", options.python, UMBEL, ("--work", "user")),
        Contestant("flwr", options.flwr_python, FLWR, ("--work", "lenet")),
    ]
    results = race(contestants, pairs=options.pairs)
    off = require_agreement("flwr", results["flwr"], options.python)
    rows = [
        Row(NAME, name, estimate(r.seconds), "s/round", facts={"seconds": r.seconds}) for name, r in results.items()
    ]
    inside = estimate(ratios(results["flwr"], results["umbel"]))
    opaque = estimate(ratios(results["flwr"], results["umbel-user"]))
    rows.append(Row(NAME, "flwr / umbel", inside, at_least=3.5, facts={"flwr_off": off}))
    rows.append(Row(NAME, "flwr / umbel, the same user's loop in both", opaque))
    for name, result in results.items():
        rows.append(Row(NAME, f"start to first round's end, {name}", estimate([result.started_s]), "s"))
    return rows
