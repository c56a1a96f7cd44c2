"""LeNet on Fashion-MNIST until 80 % of the test pictures are right: wall time of umbel, pfl and Flower.

Each draws its own cohorts, so the accuracy after equal rounds stands beside the time. Needs Debian's package
dataset-fashion-mnist.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from umbelbench import entrants, idx
from umbelbench.contest import Result, environment, race
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = TASK = "fashion"
ROUNDS, TARGET, BESIDE = 110, 0.80, (20, 50, 100)


def run(options: Options) -> list[Row]:
    if not idx.there():
        print(f"{NAME}: left out, {idx.FOLDER} is not there (apt install dataset-fashion-mnist)")
        return []
    contestants = [
        entrants.umbel("umbel", options, TASK, *entrants.ONE_BY_ONE, "--keep-models"),
        *entrants.pfl(options, TASK, "--keep-models"),
        *entrants.flwr(options, TASK, "--keep-models"),
    ]
    found = []
    for name, result in race(contestants, pairs=ROUNDS - 2).items():
        right = accuracies(result, options.python)
        found += [
            Row(NAME, f"accuracy after {number} rounds, {name}", estimate([right[number - 1]])) for number in BESIDE
        ]
        reached = next((number for number, share in enumerate(right, 1) if share >= TARGET), None)
        if reached is not None:
            took = result.ready_s + sum([*result.facts["warm_up_s"], *result.seconds][:reached])
            found.append(
                Row(NAME, f"to {TARGET:.0%}, {name} ({reached} rounds, start included)", estimate([took]), "s")
            )
        found.append(Row(NAME, f"round, {name}", estimate(result.seconds), "s/round"))
        found.append(Row(NAME, f"peak memory, {name}", estimate([result.peak_bytes / 1e6]), "MB"))
    return found


def accuracies(result: Result, python: str) -> list[float]:
    """The share of the test pictures that is right after each round."""
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models.npy"
        np.save(models, result.models)
        command = [python, "-m", "umbelbench.accuracy", models]
        answer = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)
