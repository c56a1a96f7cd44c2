"""The reference: the plainest federated averaging there is, over cohorts that a contestant reports it has used.

python -m umbelbench.reference TASK COHORTS.json RESULT.npz
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from umbelbench.loops import UserLoop
from umbelbench.task import named


def train(job: tuple[str, list[np.ndarray], list[int]]) -> tuple[list[np.ndarray], int]:
    """The weighted sum of what some clients return, in float64, and the sum of the weights."""
    name, parameters, clients = job
    task = named(name)
    torch.set_num_threads(1)
    sums, weight = [np.zeros(p.shape) for p in parameters], 0
    for client in clients:
        new, samples, _ = UserLoop(task, client, task.net()).fit(parameters, {})
        for total, array in zip(sums, new, strict=True):
            total += array.astype(np.float64) * samples
        weight += samples
    return sums, weight


def main() -> None:
    name, task = sys.argv[1], named(sys.argv[1])
    cohorts = json.loads(Path(sys.argv[2]).read_text())
    parameters = task.initial_parameters()
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        for cohort in cohorts:
            (a, n), (b, m) = pool.map(train, [(name, parameters, cohort[::2]), (name, parameters, cohort[1::2])])
            parameters = [((x + y) / (n + m)).astype(np.float32) for x, y in zip(a, b, strict=True)]
    start = np.concatenate([p.ravel() for p in task.initial_parameters()])
    with open(sys.argv[3], "wb") as file:
        np.savez(file, flat=np.concatenate([p.ravel() for p in parameters]).astype(np.float64), start=start)


if __name__ == "__main__":
    main()
