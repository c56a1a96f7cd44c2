"""The order-free sum of 100 updates of 1 M float32 against NumPy's plain float64 multiply-add."""

import json
import subprocess
import sys
import time

import numpy as np

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "exact_sum"
SIZE, UPDATES, DISTINCT = 1_000_000, 100, 20


def run(options: Options) -> list[Row]:
    command = [options.python, "-m", "umbelbench.goals.exact_sum", str(5 if options.quick else options.pairs)]
    answer = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    times = json.loads(answer.stdout)
    quotient = estimate([exact / plain for exact, plain in zip(times["exact"], times["plain"], strict=True)])
    return [
        Row(NAME, "NumPy float64 multiply-add", estimate(times["plain"]), "s"),
        Row(NAME, "exact sum", estimate(times["exact"]), "s"),
        Row(NAME, "exact / NumPy", quotient, at_most=3.0, bounded=True),
    ]


def main() -> None:
    from umbel.arrays import Arrays
    from umbel.reducers.ladder import LadderSum

    rng = np.random.default_rng(0)
    updates = [(rng.standard_normal(SIZE) * 1e-3).astype(np.float32) for _ in range(DISTINCT)]
    asked = [Arrays.of([update]) for update in updates]
    weights = rng.integers(1, 1000, UPDATES).astype(float)

    def plain() -> np.ndarray:
        total, scratch = np.zeros(SIZE), np.empty(SIZE)
        for i in range(UPDATES):
            np.multiply(updates[i % DISTINCT], weights[i], out=scratch, dtype=np.float64)
            total += scratch
        return total

    def exact() -> np.ndarray:
        total = LadderSum(asked[0].schema)
        for i in range(UPDATES):
            total.add(asked[i % DISTINCT], weights[i])
        return total.value().values

    apart = np.abs(plain() - exact()).max() / np.abs(plain()).max()
    if apart > 1e-8:
        raise SystemExit(f"the exact sum and NumPy's differ by {apart:.1e} of the largest value")
    times: dict[str, list[float]] = {"plain": [], "exact": []}
    for turn in range(int(sys.argv[1])):
        for name, work in [("plain", plain), ("exact", exact)][:: 1 if turn % 2 else -1]:
            begun = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begun)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
