"""Masked and encrypted rounds over plain ones: the hospitals as real nodes at real servers, mutual TLS, in turn."""

import importlib.util
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "secure_tls"
NODES, ROUNDS, WARM = 4, 12, 2
SECURE = "coordinator=fl.Secure(clip=8.0, weight_cap=500{}), "
KINDS = {"plain": "", "secure": SECURE.format("")}
if importlib.util.find_spec("tenseal") is not None:
    KINDS["encrypted"] = SECURE.format(", secure_sum=fl.ckks()")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class Federation:
    """A server and its nodes, processes of their own in a folder of their own, as people start them."""

    def __init__(self, python: str, folder: Path, changed: str) -> None:
        folder.mkdir()
        self._umbel, self._folder, self._processes = [python, "-m", "umbel"], folder, []
        self.call("new", "hospital")
        settings = folder / "hospital" / "hospital" / "run.py"
        settings.write_text(settings.read_text().replace("fl.Run(", f"fl.Run({changed}"))
        self._start("server", "server", "--app", "hospital", "--listen", "127.0.0.1:0")
        self.address = self._until(lambda: re.search(r"^listening at (\S+) ", self._log("server"), re.M)).group(1)
        self._where = ["--server", self.address, "--as", ".umbel/server/operator"]
        for number in range(NODES):
            code = self.call("invite", "--name", f"h{number}", "--address", self.address).strip()
            own = ["--name", f"h{number}", "--partition", str(number), "--folder", f"at-{number}"]
            self._start(f"h{number}", "node", "hospital", "--join", code, *own)
        self._until(lambda: f"{NODES} nodes are connected" in self.call("nodes", *self._where))

    def _log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def _start(self, name: str, *words: str) -> None:
        with open(self._folder / f"{name}.log", "wb") as log:
            command = [*self._umbel, *words]
            self._processes.append(subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, env=ENVIRONMENT))

    def _until(self, condition):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.1)
        raise RuntimeError(f"the federation in {self._folder} does not come up: {self._log('server')}")

    def call(self, *words: str) -> str:
        done = subprocess.run(
            [*self._umbel, *words], cwd=self._folder, env=ENVIRONMENT, capture_output=True, text=True, check=True
        )
        return done.stdout

    def rounds(self, *settings: str) -> list[dict]:
        """The rounds of a run, without the first ones."""
        self.call("run", "hospital", "--set", f"num_rounds={ROUNDS}", *settings, *self._where)
        rounds = json.loads(self.call("show", "last", "--json", *self._where))["rounds"]
        return [entry for entry in rounds if entry["round"] > WARM]

    def end(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(timeout=60)


def run(options: Options) -> list[Row]:
    if options.quick:
        return []
    with tempfile.TemporaryDirectory() as name:
        there: dict[str, Federation] = {}
        try:
            for kind, changed in KINDS.items():
                there[kind] = Federation(options.python, Path(name) / kind, changed)
            turns = [{kind: one.rounds() for kind, one in there.items()} for _ in range(max(3, options.pairs // 3))]
        finally:
            for one in there.values():
                one.end()
    ms = {kind: [1e3 * entry["seconds"] for turn in turns for entry in turn[kind]] for kind in KINDS}
    over = {kind: [b / a for a, b in zip(ms["plain"], ms[kind], strict=True)] for kind in KINDS}
    return [
        *(Row(NAME, f"{kind} round", estimate(of), "ms/round") for kind, of in ms.items()),
        Row(NAME, "secure / plain round", estimate(over["secure"]), at_most=1.5),
        *(Row(NAME, f"{kind} / plain round", estimate(of)) for kind, of in over.items() if kind == "encrypted"),
    ]
