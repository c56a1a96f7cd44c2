"""A round of a deployed run with two no-op clients and a 1 kB model: real servers, real client processes."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.goals.fleet import SERVER
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "deployed_flwr"
CLIENT = "umbelbench.contestants.umbel_client"
APP = Path(__file__).resolve().parents[1] / "peer_app"
ROUNDS, PEER_ROUNDS = 200, 8


def umbel_rounds(options: Options) -> list[float]:
    """Seconds of each round: one server process, two client processes, TCP."""
    numbers = ["--nodes", "2", "--parameters", "250", "--rounds", str(ROUNDS)]
    server = subprocess.Popen(
        [options.python, "-m", SERVER, *numbers], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert server.stdout is not None
    address = json.loads(server.stdout.readline())["address"]
    clients = [subprocess.Popen([options.python, "-m", CLIENT, address], env=environment()) for _ in range(2)]
    told = [json.loads(line) for line in server.stdout]
    for process in (server, *clients):
        if process.wait(timeout=60):
            raise RuntimeError("a process of umbel's failed")
    server.stdout.close()
    return [line["seconds"] for line in told if "round" in line][5:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def peer_rounds(python: str) -> list[float]:
    """Seconds from one round's beginning to the next one's, in the peer's own deployment."""
    tools = Path(python).parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        app, home, stamps = folder / "app", folder / "home", folder / "stamps"
        shutil.copytree(APP, app)
        home.mkdir()
        port = free_port()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        env = {**environment(), "PATH": path, "FLWR_HOME": str(home), "UMBEL_BENCH_STAMPS": str(stamps)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env, "start_new_session": True}
        link = [tools / "flower-superlink", "--insecure", "--disable-runtime-dependency-installation"]
        processes = [subprocess.Popen([*link, "--host", "127.0.0.1", "--port", str(port)], **quiet)]
        try:
            wait_for_port(port)
            for number in range(2):
                node = [tools / "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
                own = ["--host", "127.0.0.1", "--port", str(free_port())]
                who = ["--node-config", f"partition-id={number} num-partitions=2"]
                processes.append(subprocess.Popen([*node, *own, *who], **quiet))
            subprocess.run([tools / "flwr", "run", ".", "local"], cwd=app, check=True, timeout=120, **quiet)
            return gaps(stamps)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=30)
            end_all(f"UMBEL_BENCH_STAMPS={stamps}")


def end_all(mark: str) -> None:
    """End what the peer's processes started and left in sessions of its own, known by our mark in its environment."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGTERM)
        except OSError:
            continue  # it has ended, or is somebody else's


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the peer's server did not start")


def gaps(stamps: Path) -> list[float]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        times = [float(line) for line in stamps.read_text().split()] if stamps.exists() else []
        if len(times) >= PEER_ROUNDS:
            return [b - a for a, b in itertools.pairwise(times)]
        time.sleep(0.5)
    raise RuntimeError("the peer's rounds did not end")


def run(options: Options) -> list[Row]:
    if options.flwr_python is None or options.quick:
        return []
    before = umbel_rounds(options)
    peer = peer_rounds(options.flwr_python)
    ours = [*before, *umbel_rounds(options)]
    middle = estimate(ours).median
    return [
        Row(NAME, "umbel, two clients", estimate([s * 1e3 for s in ours]), "ms/round", at_most=10.0),
        Row(NAME, "flwr, two clients", estimate([s * 1e3 for s in peer]), "ms/round"),
        Row(NAME, "flwr / umbel", estimate([s / middle for s in peer]), at_least=100.0),
    ]
