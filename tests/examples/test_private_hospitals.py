"""The private hospitals: a whole run prints what protection costs, and little of the accuracy is lost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dp_accounting")
FOLDER = Path(__file__).parents[2] / "examples" / "private_hospitals"


def test_a_model_that_hides_each_patient_is_better_than_a_hospital_alone():
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / "main.py"), "--repeats", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    found = {name.strip(): float(value) for name, value in re.findall(r"^  (.+?)  +(\d\.\d+) ±", ran.stdout, re.M)}
    assert list(found)[2:] == [f"together, ε = {e}" for e in ("0.5", "1", "2", "4", "8")]
    assert found["together, ε = 8"] > found["alone, the four on average"]
    assert abs(found["together, unprotected"] - found["together, ε = 8"]) < 0.03


def test_no_repeats_are_refused():
    ran = subprocess.run([sys.executable, str(FOLDER / "main.py"), "--repeats", "0"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "at least 1" in ran.stderr
