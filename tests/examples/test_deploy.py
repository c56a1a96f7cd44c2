"""The deployed hospitals: real processes, mutual TLS, two kills, and the bits of the simulation."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "deploy" / "main.py"


@pytest.mark.slow
def test_a_killed_server_and_a_killed_node_change_no_bit():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9 of the server after round" in done.stdout
    assert done.stdout.endswith("the same bits: two crashes changed nothing\n")
