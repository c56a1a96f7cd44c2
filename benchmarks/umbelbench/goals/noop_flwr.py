"""The clients that do nothing, against Flower's simulation. Needs the peer's interpreter.

`run_simulation` is the peer's present way and what the goals refer to. With `start_simulation`, its older and
deprecated one, the number of registered clients matters little; it is measured with the fewer clients.
"""

from umbelbench.contest import race, ratios
from umbelbench.goal import Row
from umbelbench.goals.lenet import UMBEL
from umbelbench.goals.lenet_flwr import FLWR
from umbelbench.goals.noop import FEW, MANY, contestant, milliseconds
from umbelbench.intervals import estimate
from umbelbench.options import Options

FEW_NAME, MANY_NAME = "noop_flwr", "noop_flwr_many"


def run_few(options: Options) -> list[Row]:
    return _against(FEW_NAME, options, FEW, wanted=50.0, older=True)


def run_many(options: Options) -> list[Row]:
    return _against(MANY_NAME, options, MANY, wanted=250.0, older=False)


def _against(bench: str, options: Options, clients: int, *, wanted: float, older: bool) -> list[Row]:
    if options.flwr_python is None:
        return []
    contestants = [
        contestant("umbel", options.python, UMBEL, clients),
        contestant("flwr", options.flwr_python, FLWR, clients),
    ]
    if older:
        contestants.append(contestant("flwr-start", options.flwr_python, FLWR, clients, "--api", "start"))
    results = race(contestants, pairs=options.pairs)
    rows = [milliseconds(bench, f"{name}, {clients} registered", result) for name, result in results.items()]
    quotient = estimate(ratios(results["flwr"], results["umbel"]))
    rows.append(Row(bench, f"flwr / umbel, {clients} registered", quotient, at_least=wanted))
    if older:
        quotient = estimate(ratios(results["flwr-start"], results["umbel"]))
        rows.append(Row(bench, f"flwr (start_simulation) / umbel, {clients} registered", quotient))
    for name, result in results.items():
        rows.append(Row(bench, f"start to first round's end, {name}", estimate([result.started_s]), "s"))
    return rows
