"""The README's second example: a server and two clients, each a script in a process of its own, with NumPy alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "two_terminals"
# The script's port is fixed for readers; here it is one that is free.
ALONE = """
import pathlib, sys
for name in ("torch", "sklearn", "scipy", "pandas", "cloudpickle", "rich", "click", "grpc", "websockets", "uvicorn"):
    sys.modules[name] = None  # importing it raises ImportError
path, address, sys.argv = sys.argv[1], sys.argv[2], sys.argv[2:]
code = compile(pathlib.Path(path).read_text().replace("127.0.0.1:8080", address), path, "exec")
exec(code, {"__name__": "__main__"})
"""


def start(script, address, *words):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-u", "-c", ALONE, str(FOLDER / script), address, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_clients_and_a_server_with_numpy_alone():
    server = start("server.py", "127.0.0.1:0")
    assert server.stdout is not None
    address = server.stdout.readline().split()[-1]
    clients = [start("client.py", address, number) for number in ("1", "2")]
    out, _ = server.communicate(timeout=60)
    assert server.returncode == 0, out
    losses = [float(line.split()[1]) for line in out.splitlines() if re.match(r" +\d +\d", line)]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    for client in clients:
        text, _ = client.communicate(timeout=30)
        assert client.returncode == 0, text
        assert text.endswith("the run ended: finished\n")


@pytest.mark.parametrize("page", ["README.md", "docs/deploy.md"])
@pytest.mark.parametrize("script", ["server.py", "client.py"])
def test_the_pages_show_the_scripts_as_they_are(page, script):
    shown = re.findall(r"```py\n(.*?)```", (ROOT / page).read_text(), re.S)
    assert (FOLDER / script).read_text() in shown
