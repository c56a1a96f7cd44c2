"""Robust reducers on 100 updates of 500,000 float32, from the folded updates to the reduced one."""

import json
import subprocess
import sys
import time

import numpy as np

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "robust"
UPDATES, SIZE, BAD = 100, 500_000, 10
GOALS = {
    "Multi-Krum": 0.25,
    "geometric median": 0.25,
    "trimmed mean": 0.4,
    "median": 0.4,
}


def run(options: Options) -> list[Row]:
    command = [options.python, "-m", "umbelbench.goals.robust", str(5 if options.quick else options.pairs)]
    answer = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(answer.stdout)
    plain = found.pop("NumPy's mean")
    rows = [Row(NAME, "NumPy's mean of the stacked updates", estimate(plain), "s")]
    for name, seconds in found.items():
        rows.append(Row(NAME, name, estimate(seconds), "s", at_most=GOALS.get(name)))
    for name in GOALS:
        quotient = estimate([ours / theirs for ours, theirs in zip(found[name], plain, strict=True)])
        rows.append(Row(NAME, f"{name} / NumPy's mean", quotient, at_most=BOUNDS[name], bounded=True))
    return rows


BOUNDS = {"Multi-Krum": 12.0, "geometric median": 12.0, "trimmed mean": 20.0, "median": 20.0}
"""In the time of one pass over the matrix: what guards against regressions on machines of any speed."""


def main() -> None:
    import umbel as fl
    from umbel.arrays import Arrays

    reducers = {
        "clipped mean": fl.ClippedMean(),
        "median": fl.Median(),
        "trimmed mean": fl.TrimmedMean(f=BAD),
        "geometric median": fl.GeometricMedian(),
        "centered clipping": fl.CenteredClipping(),
        "Multi-Krum": fl.MultiKrum(f=BAD),
        "Bulyan": fl.Bulyan(f=BAD),
        "FoolsGold": fl.FoolsGold(),
        "NNM + Krum": fl.NearestNeighbourMixing(fl.Krum(f=BAD)),
        "NNM + trimmed mean": fl.NearestNeighbourMixing(fl.TrimmedMean(f=BAD)),
        "buckets of 2 + geometric median": fl.Bucketing(fl.GeometricMedian(), size=2),
    }
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((UPDATES, SIZE), np.float32)
    updates = [Arrays.of([row]) for row in matrix]
    schema = {"delta": updates[0].schema}
    # As if they came from a worker: the same buffers for all reducers. What is timed comes after folding.
    told, buffers = {"count": UPDATES, "names": ["delta"] * UPDATES}, [update.buffer for update in updates]
    work = {"NumPy's mean": lambda: matrix.mean(axis=0)}
    work |= {name: reducer.restore(schema, told, buffers).result for name, reducer in reducers.items()}
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(int(sys.argv[1])):
        for name in list(work)[:: 1 if turn % 2 else -1]:
            begun = time.perf_counter()
            work[name]()
            times[name].append(time.perf_counter() - begun)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
