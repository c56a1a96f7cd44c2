"""What the server and the node say: each sentence has its event, JSON stays JSON, and nothing private is in it."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from umbel.cli.log import entry

ROOT = Path(__file__).parents[2]
UMBEL = [sys.executable, "-m", "umbel"]
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
# Where the sentences of the two services are made.
SPEAKERS = [
    *(ROOT / "src/umbel/runtimes/server" / f"{name}.py" for name in ("daemon", "house", "desk", "lead")),
    *(ROOT / "src/umbel/runtimes/node" / f"{name}.py" for name in ("agent", "process", "live")),
    ROOT / "src/umbel/cli/node.py",
]


def sentences(file):
    """Each literal sentence that a file says, with a word or a number in place of what it fills in."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or not re.fullmatch(r"(self\._)?say", ast.unparse(node.func)):
            continue
        for given in node.args:
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                yield given.value
            if isinstance(given, ast.JoinedStr):
                yield "".join(p.value if isinstance(p, ast.Constant) else "7" for p in given.values)


@pytest.mark.parametrize("file", SPEAKERS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_each_sentence_has_an_event_of_its_own(file):
    loose = [text for text in sentences(file) if entry(text, NOON)["event"] == "note"]
    assert not loose, f"no event in cli/log.py for {loose}"


def test_there_are_sentences():
    assert sum(len(list(sentences(file))) for file in SPEAKERS) >= 15


def test_a_sentence_becomes_time_level_event_and_fields():
    assert entry("node h1 is gone: it says nothing any more", NOON) == {
        "time": "2026-01-02T12:00:00.000Z",
        "level": "warning",
        "event": "node_gone",
        "text": "node h1 is gone: it says nothing any more",
        "node": "h1",
        "reason": "it says nothing any more",
    }
    failed = entry("fit in round 3 of run ab failed: it\ncrashed", NOON)
    assert (failed["event"], failed["ask"], failed["round"], failed["reason"]) == (
        "turn_failed",
        "fit",
        3,
        "it\ncrashed",
    )
    assert entry("something new", NOON)["event"] == "note"


@pytest.fixture
def start(tmp_path):
    """Processes of `umbel` in one folder, each with its output in a file."""
    processes = {}

    def begin(name, *words):
        with open(tmp_path / f"{name}.out", "wb") as out, open(tmp_path / f"{name}.err", "wb") as err:
            processes[name] = subprocess.Popen(
                [*UMBEL, *words], cwd=tmp_path, stdout=out, stderr=err, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        return processes[name]

    yield begin
    for process in processes.values():
        if process.poll() is None:
            process.kill()
        process.wait()


def told(folder, name):
    """The log as it is so far; a line that is not finished is left for later."""
    whole, _, _ = (folder / f"{name}.out").read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def until(condition, seconds=150.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def call(folder, *words):
    done = subprocess.run([*UMBEL, *words], cwd=folder, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def said(folder, name, event):
    return next((line for line in told(folder, name) if line["event"] == event), None)


def test_services_log_json_without_codes_keys_or_metrics_and_end_well_at_sigterm(tmp_path, start):
    call(tmp_path, "new", "hospital")
    server = start("server", "server", "--app", "hospital", "--listen", "127.0.0.1:0", "--log-format", "json")
    address = until(lambda: said(tmp_path, "server", "listening"))["address"]
    nodes = []
    codes = [call(tmp_path, "invite", "--name", f"h{number}", "--address", address) for number in range(4)]
    for number, code in enumerate(codes):
        (tmp_path / f"code-{number}").write_text(code + "\n")
        words = ["--join-file", f"code-{number}", "--name", f"h{number}", "--partition", str(number)]
        nodes.append(
            start(f"h{number}", "node", "hospital", *words, "--folder", f"at-{number}", "--log-format", "json")
        )
    to = ["--server", address, "--as", ".umbel/server/operator"]
    until(lambda: all(said(tmp_path, f"h{number}", "connected") for number in range(4)))
    call(tmp_path, "run", "hospital", "--set", "num_rounds=2", *to)
    ended = until(lambda: said(tmp_path, "server", "run_ended"))
    assert (ended["level"], ended["run"]) == ("info", json.loads(call(tmp_path, "ls", "--json", *to))[-1]["run"])
    for process in (*nodes, server):
        process.send_signal(signal.SIGTERM)
    assert [process.wait(timeout=30) for process in (*nodes, server)] == [0] * 5
    for name in ("server", "h0", "h3"):
        lines = told(tmp_path, name)
        assert (tmp_path / f"{name}.err").read_text() == ""
        assert lines[-1]["event"] in ("stopping", "node_gone")
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["time"]) for line in lines)
        text = (tmp_path / f"{name}.out").read_text()
        assert not any(code in text for code in codes)
        assert "PRIVATE KEY" not in text
        assert "accuracy" not in text
        assert "loss" not in text
    # A file with a used code may stay: a node that has joined does not look at it.
    again = start("again", "node", "hospital", "--join-file", "gone", "--folder", "at-0", "--log-format", "json")
    assert until(lambda: said(tmp_path, "again", "disconnected"))["retry_s"] > 0
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=30) == 0


def test_what_ends_a_service_is_in_its_log_and_on_stderr(tmp_path, start):
    call(tmp_path, "new", "hospital")
    node = start("node", "node", "hospital", "--join-file", "nowhere", "--name", "h", "--log-format", "json")
    assert node.wait(timeout=30) == 2
    ended = told(tmp_path, "node")[-1]
    assert (ended["event"], ended["level"], ended["error"], ended["exit_code"]) == ("ended", "error", "ConfigError", 2)
    assert (tmp_path / "node.err").read_text().strip() == ended["text"]
