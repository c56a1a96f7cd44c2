"""Final parameters against the reference loop, over the cohorts that a contestant says it used."""

import json
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from umbelbench.contest import Result, environment

TOLERANCE = 1e-3


@lru_cache(maxsize=4)
def reference(task: str, cohorts: str, python: str) -> tuple[np.ndarray, np.ndarray]:
    """The start and the end of the reference loop; contestants of one framework ask for the same."""
    with tempfile.TemporaryDirectory() as directory:
        asked, answer = Path(directory) / "cohorts.json", Path(directory) / "reference.npz"
        asked.write_text(cohorts)
        subprocess.run([python, "-m", "umbelbench.reference", task, asked, answer], env=environment(), check=True)
        with np.load(answer) as arrays:
            return arrays["start"], arrays["flat"]


def deviation(result: Result, python: str, task: str) -> float:
    """How far the final model lies from the reference loop's, relative to how far training has moved it."""
    start, wanted = reference(task, json.dumps(result.facts["cohorts"]), python)
    return float(np.linalg.norm(result.parameters - wanted) / np.linalg.norm(wanted - start))


def require_agreement(name: str, result: Result, python: str, task: str = "lenet") -> float:
    """The deviation, or an error: a fast wrong answer is not a result."""
    off = deviation(result, python, task)
    if off > TOLERANCE:
        raise SystemExit(f"{name}: final parameters deviate by {off:.2e} of the way trained, {TOLERANCE:g} is allowed")
    return off
