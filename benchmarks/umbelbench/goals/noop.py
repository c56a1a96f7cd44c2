"""Clients that return the model, 100 a round, 1,000 parameters, 100 and 10,000 registered: the cost of a round."""

from umbelbench.contest import Contestant, Result, race, ratios
from umbelbench.goal import Row
from umbelbench.goals.lenet import UMBEL
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "noop"
FEW, MANY = 100, 10_000


def contestant(name: str, python: str, module: str, clients: int, *more: str) -> Contestant:
    return Contestant(name, python, module, ("--work", "noop", "--clients", str(clients), *more))


def milliseconds(bench: str, quantity: str, result: Result, at_most: float | None = None) -> Row:
    return Row(bench, quantity, estimate([s * 1e3 for s in result.seconds]), "ms/round", at_most=at_most)


def run(options: Options) -> list[Row]:
    yardstick = Contestant("yardstick", options.python, "umbelbench.contestants.yardstick")
    few = contestant("few", options.python, UMBEL, FEW)
    many = contestant("many", options.python, UMBEL, MANY)
    results = race([few, many, yardstick], pairs=options.pairs)
    rows = []
    for name, clients in (("few", FEW), ("many", MANY)):
        rows.append(milliseconds(NAME, f"umbel, {clients} registered", results[name], at_most=20.0))
        against = estimate(ratios(results[name], results["yardstick"]))
        rows.append(Row(NAME, f"umbel / yardstick, {clients} registered", against, bounded=True))
    return rows
