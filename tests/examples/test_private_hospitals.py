"""The private hospitals: a whole run prints what protection costs, and little of the accuracy is lost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.test_docs import shape

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
    together = [f"together, ε = {e}" for e in ("0.5", "1", "2", "4", "8")]
    assert list(found)[2:] == [*together, "noise of each one's own, ε = 2", "noise of each one's own, ε = 8"]
    assert found["noise of each one's own, ε = 8"] > found["alone, the four on average"]
    assert found["together, ε = 8"] > found["alone, the four on average"]
    assert abs(found["together, unprotected"] - found["together, ε = 8"]) < 0.03


def test_no_repeats_are_refused():
    ran = subprocess.run([sys.executable, str(FOLDER / "main.py"), "--repeats", "0"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "at least 1" in ran.stderr


@pytest.mark.slow
def test_attacks_find_nothing_their_controls_do_and_the_page_on_the_report_quotes_them(tmp_path):
    for library in ("cryptography", "sklearn", "torch", "click", "rich"):
        pytest.importorskip(library)
    levels = [word for level in range(5) for word in ("--level", f"A{level}")]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "umbel", "privacy", str(FOLDER), *levels],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = {shape(line) for line in ran.stdout.splitlines()}
    pages = [(FOLDER.parents[1] / name).read_text("utf-8") for name in ("docs/privacy-report.md", "README.md")]
    lines = [line for page in pages for line in page.splitlines()]
    quoted = [line for line in lines if re.match(r"A\d \w+  |   control|\d+ things hold", line)]
    assert len(quoted) == 29
    # The closing line counts what was looked at, in one call there and in two on the page.
    assert not [line for line in quoted if shape(line) not in told]
