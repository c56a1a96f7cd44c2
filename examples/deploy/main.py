"""Four hospitals train over mutual TLS; the server and a node are killed in the middle, and nothing is lost.

    python examples/deploy/main.py

Everything is a process of its own: `umbel server`, four times `umbel node` (each joined with a one-time code), and
`umbel run`. At the end the model is compared, bit by bit, with that of the same app simulated in one process.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UMBEL = [sys.executable, "-m", "umbel"]
HOSPITALS = ("cleveland", "hungary", "switzerland", "long-beach")
SETTINGS = ["--set", "num_rounds=12", "--set", "local_steps=4000", "--set", "lr=0.02"]


class Deployment:
    """The processes of a federation, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def call(self, *words: str) -> str:
        done = subprocess.run([*UMBEL, *words], cwd=self.folder, capture_output=True, text=True, env=environment())
        if done.returncode:
            raise SystemExit(f"umbel {words[0]} failed: {done.stderr}")
        return done.stdout.strip()

    def start(self, name: str, *words: str) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [*UMBEL, *words], cwd=self.folder, stdout=log, stderr=log, env=environment()
            )

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def end(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait()


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def until(condition, what: str, seconds: float = 60.0):
    """What `condition` gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"waited {seconds:g} s for {what}")


def address_of(deployment: Deployment) -> str:
    lines = [line for line in deployment.log("server").splitlines() if line.startswith("listening at ")]
    return lines[-1].split()[2] if lines else ""


def rounds_of(deployment: Deployment, there: list[str]) -> int:
    """How many rounds the newest run has finished; 0 while the server does not answer."""
    done = subprocess.run(
        [*UMBEL, "ls", "--json", *there], cwd=deployment.folder, capture_output=True, text=True, env=environment()
    )
    runs = json.loads(done.stdout) if done.returncode == 0 else []
    return runs[-1]["round"] if runs else 0


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        deployment = Deployment(Path(name))
        try:
            play(deployment)
        finally:
            deployment.end()


def play(deployment: Deployment) -> None:
    print("umbel new hospital, and one umbel server with it")
    deployment.call("new", "hospital")
    deployment.start("server", "server", "--app", "hospital", "--listen", "127.0.0.1:0")
    address = until(lambda: address_of(deployment), "the server")
    there = ["--server", address, "--as", ".umbel/server/operator"]

    def join(place: int) -> None:
        hospital = HOSPITALS[place]
        code = deployment.call("invite", "--name", hospital, "--address", address)
        words = ["--join", code, "--name", hospital, "--partition", str(place), "--folder", f"at-{hospital}"]
        deployment.start(hospital, "node", "hospital", *words)

    for place, hospital in enumerate(HOSPITALS):
        join(place)
        print(f"  {hospital} is invited and joins with its code")
    until(lambda: deployment.call("nodes", *there).endswith("4 nodes are connected"), "four nodes")

    deployment.start("run", "run", "hospital", *SETTINGS, *there)
    reached = until(lambda: rounds_of(deployment, there), "the first round")
    deployment.kill("server")
    print(f"kill -9 of the server after round {reached}, in the middle of the next")
    deployment.start("server", "server", "--app", "hospital", "--listen", address)
    until(lambda: rounds_of(deployment, there) > reached, "the run to go on")
    print("  started again: the nodes came back by themselves, and the run goes on")

    victim = HOSPITALS[1]
    deployment.kill(victim)
    print(f"kill -9 of {victim} at round {rounds_of(deployment, there) + 1}; the round waits for it")
    deployment.start(victim, "node", "hospital", "--partition", "1", "--folder", f"at-{victim}")
    until(lambda: rounds_of(deployment, there) == 12, "the last round")
    print(deployment.call("ls", *there))

    deployment.call("export", "last", "deployed.safetensors", *there)
    deployment.call("run", "hospital", *SETTINGS)
    deployment.call("export", "last", "simulated.safetensors")
    digests = [
        hashlib.sha256((deployment.folder / f"{name}.safetensors").read_bytes()).hexdigest()
        for name in ("deployed", "simulated")
    ]
    for name, digest in zip(("deployed", "simulated"), digests, strict=True):
        print(f"{name:9} model: sha256 {digest}")
    if digests[0] != digests[1]:
        raise SystemExit("the deployed model is not the simulated one")
    print("the same bits: two crashes changed nothing")


if __name__ == "__main__":
    main()
