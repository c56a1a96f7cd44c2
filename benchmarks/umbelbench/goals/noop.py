"""Clients that return the model, 100 a round, 1,000 parameters, 100 and 10,000 registered: the cost of a round."""

from umbelbench.contest import Contestant, Result, race, ratios
from umbelbench.goal import Row
from umbelbench.goals.lenet import UMBEL
from umbelbench.goals.lenet_flwr import FLWR
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "noop"
FEW, MANY = 100, 10_000
WANTED = {FEW: 50.0, MANY: 250.0}


def contestant(name: str, python: str, module: str, clients: int) -> Contestant:
    return Contestant(f"{name}-{clients}", python, module, ("--work", "noop", "--clients", str(clients)))


def run(options: Options) -> list[Row]:
    with_peer = options.flwr_python is not None and not options.quick
    yardstick = Contestant("yardstick", options.python, "umbelbench.contestants.yardstick")
    rows = []
    for clients in (FEW, MANY):
        contestants = [contestant("umbel", options.python, UMBEL, clients), yardstick]
        if with_peer and options.flwr_python:
            contestants.append(contestant("flwr", options.flwr_python, FLWR, clients))
        results = race(contestants, pairs=options.pairs)
        umbel = results[f"umbel-{clients}"]
        rows.append(milliseconds(f"umbel, {clients} registered", umbel, at_most=20.0))
        against = estimate(ratios(umbel, results["yardstick"]))
        rows.append(Row(NAME, f"umbel / yardstick, {clients} registered", against, bounded=True))
        if with_peer:
            flwr = results[f"flwr-{clients}"]
            rows.append(milliseconds(f"flwr, {clients} registered", flwr))
            quotient = estimate(ratios(flwr, umbel))
            rows.append(Row(NAME, f"flwr / umbel, {clients} registered", quotient, at_least=WANTED[clients]))
            started = estimate([flwr.started_s])
            rows.append(Row(NAME, f"start to first round's end, flwr, {clients} registered", started, "s"))
    return rows


def milliseconds(quantity: str, result: Result, at_most: float | None = None) -> Row:
    return Row(NAME, quantity, estimate([s * 1e3 for s in result.seconds]), "ms/round", at_most=at_most)
