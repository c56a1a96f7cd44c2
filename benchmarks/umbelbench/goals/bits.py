"""The ragged clients trained by 1, 2 and 3 workers: is the final model the same to the bit?"""

from umbelbench import entrants
from umbelbench.contest import alone
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "bits"
TASK, ROUNDS, WORKERS = "ragged", 5, (1, 2, 3)
ENGINES = {"one by one": entrants.ONE_BY_ONE, "blocks": ()}


def run(options: Options) -> list[Row]:
    found = []
    for name, settings in ENGINES.items():
        digests = {}
        for workers in WORKERS:
            contestant = entrants.umbel(name, options, TASK, *settings, "--workers", str(workers))
            digests[workers] = alone(contestant, ROUNDS).facts["sha256"]
        different = len(set(digests.values()))
        quantity = f"different final models with 1, 2 and 3 workers, {name} (SHA-256 {digests[1][:12]})"
        found.append(Row(NAME, quantity, estimate([different]), at_most=1, facts={"sha256": digests}))
    return found
