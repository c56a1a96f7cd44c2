"""Eight silos of 500 samples, all in every round, ten rounds of a perceptron: the whole program, start-up included."""

from umbelbench import entrants
from umbelbench.check import require_agreement
from umbelbench.contest import Contestant, Result, alone
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = TASK = "silo"
ROUNDS, SILOS = 10, 8
NVFLARE = "umbelbench.contestants.nvflare_sim"


def contestants(options: Options) -> list[Contestant]:
    found = [entrants.umbel("umbel", options, TASK, "--form", "built", "--engine", "auto")]
    if options.nvflare_python and not options.quick:
        found.append(Contestant("nvflare", options.nvflare_python, NVFLARE))
    found += entrants.flwr(options, TASK, "--clients", str(SILOS), "--cohort", str(SILOS))
    return found + entrants.pfl(options, TASK)


def run(options: Options) -> list[Row]:
    entered = contestants(options)
    runs: dict[str, list[Result]] = {contestant.name: [] for contestant in entered}
    for _ in range(max(1, options.pairs // 3)):
        for contestant in entered:
            result = alone(contestant, ROUNDS)
            require_agreement(contestant.name, result, options.python, TASK)
            runs[contestant.name].append(result)
    found = []
    for name, results in runs.items():
        found.append(Row(NAME, f"{name}, whole program", estimate([r.total_s for r in results]), "s"))
        found.append(Row(NAME, f"peak memory, {name}", estimate([r.peak_bytes / 1e6 for r in results]), "MB"))
    for name in ("nvflare", "flwr", "pfl"):
        if name in runs:
            quotients = [a.total_s / b.total_s for a, b in zip(runs[name], runs["umbel"], strict=True)]
            wanted = None if name == "pfl" else 10.0
            found.append(Row(NAME, f"{name} / umbel, whole program", estimate(quotients), at_least=wanted))
    return found
