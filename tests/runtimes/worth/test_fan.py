"""Work that is divided among forks comes back in order, and a fork that fails or dies is said."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, os
from umbel.errors import EngineError
from umbel.runtimes.worth.fan import fanned

def work(number):
    if number == {bad}:
        {how}
    return [number * number, os.getpid()]

try:
    print(json.dumps(fanned(work, list(range(7)), {workers})))
except EngineError as error:
    print(json.dumps(str(error)))
"""


def ran(*, workers, bad=-1, how="pass"):
    """What the script prints in a process of its own, which has no other threads."""
    code = SCRIPT.format(workers=workers, bad=bad, how=how)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_results_come_in_the_order_of_the_work(workers):
    found = ran(workers=workers)
    assert [square for square, _ in found] == [number * number for number in range(7)]
    assert len({process for _, process in found}) == min(workers, 7)


def test_an_error_in_a_fork_is_told_with_its_reason():
    told = ran(workers=2, bad=3, how="raise ValueError('no disk')")
    assert told.startswith("a coalition could not be measured: ValueError: no disk")


def test_a_fork_that_dies_is_said():
    assert "a worker died before it had told anything" in ran(workers=2, bad=3, how="os._exit(9)")
