"""The parent's side of the line protocol: starts contestants and runs them round by round, interleaved."""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from umbelbench.memory import Peak

ROOT = Path(__file__).resolve().parents[1]
ROUND_LIMIT_S = 120.0


def environment() -> dict[str, str]:
    """One thread per process, no telemetry, and the harness importable."""
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **quiet, **threads, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Contestant:
    """A program that obeys the protocol: `python -m module *arguments`."""

    name: str
    python: str
    module: str
    arguments: tuple[str, ...] = ()


@dataclass
class Result:
    """What one contestant did.

    Args:
        started_s: from the process's creation to its first round's end.
        total_s: from the process's creation to its end, of a contestant that ran by itself (`whole`).
        peak_bytes: the process tree's largest memory while rounds ran that are not measured.
        models: the flat model after each round, if the contestant kept them.
    """

    seconds: list[float] = field(default_factory=list)
    ready_s: float = 0.0
    started_s: float = 0.0
    total_s: float = 0.0
    peak_bytes: int = 0
    parameters: np.ndarray = field(default_factory=lambda: np.empty(0))
    models: np.ndarray = field(default_factory=lambda: np.empty(0))
    facts: dict[str, Any] = field(default_factory=dict)


class Running:
    """A started contestant. Its standard error goes to a file, shown when it fails."""

    def __init__(self, contestant: Contestant, rounds: int, directory: str) -> None:
        self.contestant, self.result, self.rounds = contestant, Result(), rounds
        self._errors = Path(directory) / f"{contestant.name}.log"
        self._output = Path(directory) / f"{contestant.name}.npz"
        command = [contestant.python, "-m", contestant.module, *contestant.arguments]
        command += ["--rounds", str(rounds), "--result", str(self._output)]
        self.begun = time.perf_counter()
        with open(self._errors, "wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(),
                cwd=directory, start_new_session=True,
            )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self, key: str, limit_s: float = ROUND_LIMIT_S) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            line = ""
        message = json.loads(line) if line.strip() else {}
        if not message or (key and key not in message):
            tail = self._errors.read_text(errors="replace")[-3000:]
            self.stop()
            raise RuntimeError(f"{self.contestant.name} said {line!r} where '{key}' was due; it wrote:\n{tail}")
        return message

    def ready(self) -> None:
        self.hear("ready")
        self.result.ready_s = time.perf_counter() - self.begun

    def round(self, *, weighed: bool = False) -> float:
        """One round. In between the child is stopped, so that its polling threads take nothing from the others.

        Args:
            weighed: look at the process tree's memory meanwhile, which takes time from it.
        """
        self.process.send_signal(signal.SIGCONT)
        with Peak(self.process.pid, period_s=0.1) if weighed else nullcontext() as peak:
            self.tell("round")
            seconds = self.hear("round")["seconds"]
        if peak is not None:
            self.result.peak_bytes = max(self.result.peak_bytes, peak.bytes)
        self.result.seconds.append(seconds)
        self.process.send_signal(signal.SIGSTOP)
        return seconds

    def end(self) -> Result:
        self.process.send_signal(signal.SIGCONT)
        self.tell("end")
        self._take(self.hear("end"))
        self.stop()
        return self.result

    def whole(self, limit_s: float) -> Result:
        """All rounds without a pause, and the end: what a user waits for."""
        for _ in range(self.rounds):
            self.tell("round")
        self.tell("end")
        with Peak(self.process.pid, period_s=0.25) as peak:
            while "end" not in (message := self.hear("", limit_s)):
                if "ready" in message:
                    self.result.ready_s = time.perf_counter() - self.begun
                elif "round" in message:
                    self.result.seconds.append(message["seconds"])
            self._take(message)
            self.process.wait(limit_s)
            self.result.total_s = time.perf_counter() - self.begun
        self.result.peak_bytes = peak.bytes
        return self.result

    def _take(self, message: dict[str, Any]) -> None:
        with np.load(message.pop("end")) as arrays:
            self.result.parameters, self.result.models = arrays["flat"], arrays["models"]
        self.result.facts = message

    def stop(self) -> None:
        """Ends the child and everything it started: the session is its own, so its group is only it."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(timeout=15)
        with suppress(ProcessLookupError):  # what it started and left behind
            os.killpg(self.process.pid, signal.SIGTERM)


def race(contestants: list[Contestant], *, pairs: int, warm_up: int = 2) -> dict[str, Result]:
    """Runs all contestants side by side, one round each in turn, `pairs` times after `warm_up` rounds.

    The order turns round by round, so that nobody always runs first. Each contestant is asked for one round more than
    is measured, because a framework's shutdown belongs to its last round. Only one contestant works at a time. Memory
    is looked at in the rounds that are not measured.
    """
    rounds = warm_up + pairs + 1
    with tempfile.TemporaryDirectory() as directory:
        running: list[Running] = []
        try:
            for contestant in contestants:
                child = Running(contestant, rounds, directory)
                running.append(child)
                child.ready()
                child.round()
                child.result.started_s = child.result.ready_s + child.result.seconds[0]
            for turn in range(1, rounds):
                shift = turn % len(running)
                unmeasured = turn < warm_up or turn == rounds - 1
                for child in running[shift:] + running[:shift]:
                    child.round(weighed=unmeasured)
            results = {child.contestant.name: child.end() for child in running}
        finally:
            for child in running:
                if child.process.poll() is None:
                    child.stop()
    for result in results.values():
        result.facts["warm_up_s"] = result.seconds[:warm_up]
        result.seconds = result.seconds[warm_up : warm_up + pairs]
    return results


def alone(contestant: Contestant, rounds: int, limit_s: float = 600.0) -> Result:
    """One contestant from start to end, nobody beside it."""
    with tempfile.TemporaryDirectory() as directory:
        child = Running(contestant, rounds, directory)
        try:
            return child.whole(limit_s)
        finally:
            child.stop()


def ratios(over: Result, under: Result) -> list[float]:
    """Pair by pair, the seconds of one over the seconds of the other."""
    return [a / b for a, b in zip(over.seconds, under.seconds, strict=True)]
