"""Final parameters against the reference loop, over the cohorts that a contestant says it used."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from umbelbench.contest import Result, environment

TOLERANCE = 1e-3


def deviation(result: Result, python: str, task: str) -> float:
    """How far the final model lies from the reference loop's, relative to how far training has moved it."""
    cohorts = result.facts["cohorts"]
    with tempfile.TemporaryDirectory() as directory:
        asked, answer = Path(directory) / "cohorts.json", Path(directory) / "reference.npz"
        asked.write_text(json.dumps(cohorts))
        subprocess.run([python, "-m", "umbelbench.reference", task, asked, answer], env=environment(), check=True)
        reference = np.load(answer)
        moved = np.linalg.norm(reference["flat"] - reference["start"])
        return float(np.linalg.norm(result.parameters - reference["flat"]) / moved)


def require_agreement(name: str, result: Result, python: str, task: str = "lenet") -> float:
    """The deviation, or an error: a fast wrong answer is not a result."""
    off = deviation(result, python, task)
    if off > TOLERANCE:
        raise SystemExit(f"{name}: final parameters deviate by {off:.2e} of the way trained, {TOLERANCE:g} is allowed")
    return off
