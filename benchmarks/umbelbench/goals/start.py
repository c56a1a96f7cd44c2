"""From the creation of the process to the end of the first round, in fresh processes."""

from umbelbench.contest import Contestant, race
from umbelbench.goal import Row
from umbelbench.goals.lenet import UMBEL
from umbelbench.intervals import Estimate, estimate
from umbelbench.options import Options

NAME = "start"


def started(contestant: Contestant, times: int) -> Estimate:
    return estimate([race([contestant], pairs=1, warm_up=1)[contestant.name].started_s for _ in range(times)])


def run(options: Options) -> list[Row]:
    noop = Contestant("numpy", options.python, UMBEL, ("--work", "noop"))
    torch = Contestant("torch", options.python, UMBEL, ("--work", "torch"))
    times = 5 if options.quick else options.pairs
    return [
        Row(NAME, "NumPy clients", started(noop, times), "s", at_most=1.0),
        Row(NAME, "torch clients (LeNet; the round included)", started(torch, min(times, 7)), "s", at_most=6.0),
    ]
