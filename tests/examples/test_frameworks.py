"""The examples with PyTorch and scikit-learn, run as a user runs them."""

import difflib
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from umbel.data.fashion import DEBIAN_FOLDER

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *arguments):
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def code(script):
    lines = (EXAMPLES / script).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.strip().startswith("#")]


def new_lines(before, after):
    """Lines of `after` that are added or changed."""
    return sum(line.startswith("+ ") for line in difflib.ndiff(before, after))


def test_federating_the_pytorch_script_takes_fewer_than_20_lines():
    before, after = code("torch_fashion/before.py"), code("torch_fashion/federated.py")
    assert 5 < new_lines(before, after) < 20
    assert new_lines(after, before) < 20  # nor does it get short by moving code away


def write_idx(file, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    file.write_bytes(header + array.tobytes())


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """The real pictures where the Debian package is installed, else bright and dark squares in ten places."""
    if (DEBIAN_FOLDER / "train-images-idx3-ubyte.gz").exists():
        return DEBIAN_FOLDER
    folder = tmp_path_factory.mktemp("fashion")
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        labels = rng.integers(0, 10, 2000).astype(np.uint8)
        images = rng.integers(0, 60, (2000, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 8, 4:24] += 120
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("script", ["before.py", "federated.py"])
def test_the_pytorch_scripts_learn(script, fashion):
    pytest.importorskip("torch")
    clients = ["--clients", "4"] if script == "federated.py" else []
    output = run(f"torch_fashion/{script}", "--data", str(fashion), "--subset", "2000", "--rounds", "4", *clients)
    accuracies = [float(found) for found in re.findall(r"accuracy (0\.\d+)", output)]
    assert accuracies[-1] > 0.5  # measured 0.71 before, 0.61 federated; guessing gives 0.1


def test_digits_with_scikit_learn_reach_their_accuracy():
    pytest.importorskip("sklearn")
    output = run("sklearn_digits/main.py")
    accuracies = [float(found) for found in re.findall(r"accuracy (0\.\d+)", output)]
    assert accuracies[0] < 0.2
    assert accuracies[-1] > 0.88  # measured 0.925; one machine with all digits has about 0.95


@pytest.mark.slow
def test_an_own_head_beats_both_one_head_for_all_and_learning_alone():
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    mean = next(line for line in run("personal_head/main.py").splitlines() if line.startswith("mean"))
    alone, shared, own = (float(number) for number in mean.split()[1:])
    assert own > alone > shared  # measured 0.773, 0.728, 0.2 to 0.3
    assert own > 0.7
