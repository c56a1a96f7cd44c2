"""The real command in real processes, from a new app to a resumed run."""

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from umbel.arrays import Arrays

from .conftest import ENVIRONMENT, UMBEL, write_app


def last_line(out: str) -> dict:
    return json.loads(out.strip().splitlines()[-1])


def until_round(process: subprocess.Popen, number: int) -> None:
    """Read JSON lines until this round is in the log."""
    for text in process.stdout:
        event = json.loads(text)
        if event["kind"] == "round" and event["round"] >= number:
            return
    raise AssertionError(f"the run ended before round {number}")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [UMBEL, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )


def test_a_new_app_is_checked_run_listed_shown_and_exported(umbel, tmp_path):
    assert umbel("new", "hospital").code == 0
    assert umbel("check", "hospital").out == "hospital: all is well\n"
    ran = umbel("run", "hospital", "--set", "num_rounds=3", "--name", "first")
    assert (ran.code, ran.err) == (0, "")
    assert "finished after 3 rounds" in ran.out
    listed = json.loads(umbel("ls", "--json").out)
    assert [(line["name"], line["status"], line["round"]) for line in listed] == [("first", "finished", 3)]
    shown = umbel("show", "last")
    for piece in ("hospital", "FedAvg", "num_rounds=3", "accuracy", "▁", "█"):
        assert piece in shown.out
    exported = umbel("export", listed[0]["run"][:10], "model.safetensors", "--json")
    model = Arrays.load(str(tmp_path / "model.safetensors"))
    assert json.loads(exported.out)["digest"] == model.digest
    assert model["0"].shape == (22,)


@pytest.mark.parametrize(("engine", "other"), [("serial", "pool"), ("pool", "serial")])
def test_a_killed_run_resumes_to_the_model_of_an_undisturbed_one(umbel, tmp_path, engine, other):
    write_app(tmp_path / "means")
    many = ("means", "--set", "num_rounds=60", "--json", "--engine")
    whole = last_line(umbel("run", *many, other, "--store", "whole.db").out)
    process = start(tmp_path, "run", *many, engine)
    until_round(process, 5)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    broken = json.loads(umbel("ls", "--json").out)[0]
    assert broken["status"] == "unfinished"
    assert 5 <= broken["round"] < 60
    resumed = umbel("resume", "last", "--json")
    assert (resumed.code, resumed.err) == (0, "")
    ended = last_line(resumed.out)
    assert ended["run"] == broken["run"]
    assert ended["digest"] == whole["digest"]
    assert [record["loss"] for record in ended["rounds"]] == [record["loss"] for record in whole["rounds"]]


def test_ctrl_c_keeps_finished_rounds_and_says_how_to_go_on(umbel, tmp_path):
    write_app(tmp_path / "means")
    process = start(tmp_path, "run", "means", "--set", "num_rounds=600", "--json")
    until_round(process, 2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(err.splitlines()) == 1
    run = json.loads(umbel("ls", "--json").out)[0]
    assert run["status"] == "interrupted"
    assert err.startswith("interrupted after round ")
    assert f"umbel resume {run['run']}" in err
    assert last_line(umbel("resume", run["run"], "--json").out)["rounds"][-1]["round"] == 600


def test_a_run_that_another_process_runs_is_not_resumed(umbel, tmp_path):
    write_app(tmp_path / "means")
    process = start(tmp_path, "run", "means", "--set", "num_rounds=100000", "--json")
    until_round(process, 1)
    run = json.loads(umbel("ls", "--json").out)[0]
    refused = umbel("resume", "last")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert run["status"] == "running"
    assert refused.code == 4
    assert refused.err == f"run {run['run']} is being run by another process; wait for it, or stop that one first\n"


def test_a_terminal_shows_live_progress(tmp_path):
    write_app(tmp_path / "means")
    ours, theirs = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen([UMBEL, "run", "means"], cwd=tmp_path, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = read_all(ours)
    assert process.wait(timeout=30) == 0
    for piece in ("rounds", "training", "evaluating", "loss 0.", " left", "3/3", "look at it:"):
        assert piece in shown
    assert "\x1b[1A" in shown, "the display is redrawn in its place"
    assert "Traceback" not in shown


def read_all(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


def test_output_into_a_closed_pipe_is_no_error(tmp_path):
    write_app(tmp_path / "means")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([UMBEL, "--help"], stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=30)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_sentence_says_what_to_install(missing):
    import sys

    code = f"import sys; sys.modules[{missing!r}] = None; from umbel.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
    assert done.returncode == 3
    assert done.stderr == "the command umbel needs click and rich; install them with: pip install 'umbel[cli]'\n"


@pytest.mark.parametrize(
    ("missing", "words"),
    [("cryptography", ["server"]), ("uvicorn", ["server"]), ("cryptography", ["join", "x", "--name", "y"])],
)
def test_a_missing_library_names_its_extra(missing, words, tmp_path):
    import sys

    code = f"import sys; sys.modules[{missing!r}] = None; from umbel.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=30, cwd=tmp_path
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.endswith(f"this needs {missing}; install it with: pip install 'umbel[server]'\n")
