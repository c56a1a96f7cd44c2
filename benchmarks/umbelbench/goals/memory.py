"""Peak memory of the process tree while a cohort returns 100 and 1,000 updates of 4 MB."""

import tempfile

from umbelbench.contest import Contestant, Running
from umbelbench.goal import Row
from umbelbench.goals.lenet import UMBEL
from umbelbench.intervals import estimate
from umbelbench.memory import Peak
from umbelbench.options import Options

NAME = "memory"
WORKERS, PARAMETERS, TINY = 2, 1_000_000, 1_000
MODEL_BYTES = 4 * PARAMETERS
LIMIT_MODELS = 6 * WORKERS + 4


def peak_bytes(python: str, parameters: int, cohort: int) -> int:
    """The largest memory seen from the process's start to its end, over two rounds."""
    arguments = ("--work", "fresh", "--clients", "1000", "--cohort", str(cohort), "--parameters", str(parameters))
    with tempfile.TemporaryDirectory() as directory:
        child = Running(Contestant("umbel", python, UMBEL, (*arguments, "--workers", str(WORKERS))), 2, directory)
        with Peak(child.process.pid) as peak:
            child.ready()
            for _ in range(2):
                child.round()
        child.end()
    return peak.bytes


def run(options: Options) -> list[Row]:
    times = 1 if options.quick else 3
    above: dict[int, list[float]] = {100: [], 1_000: []}
    for _ in range(times):
        for cohort, seen in above.items():
            base = peak_bytes(options.python, TINY, cohort)
            seen.append((peak_bytes(options.python, PARAMETERS, cohort) - base) / MODEL_BYTES)
    growth = [many / few for few, many in zip(above[100], above[1_000], strict=True)]
    rows = [
        Row(NAME, f"above the baseline, cohort {cohort}", estimate(seen), "models", at_most=LIMIT_MODELS, bounded=True)
        for cohort, seen in above.items()
    ]
    return [*rows, Row(NAME, "cohort 1,000 / cohort 100", estimate(growth), at_most=1.1)]
