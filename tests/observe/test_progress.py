import io
import os
import sys
import threading

import pytest
from rich.console import Console

from umbel.observe.progress import LiveProgress, duration


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)


def drawn(console: Console) -> str:
    text = console.file.getvalue()
    console.file.seek(0)
    console.file.truncate()
    return text


def clients(done: int, total: int = 10) -> dict:
    return {"kind": "progress", "round": 1, "phase": "fit", "done": done, "total": total}


def test_rounds_losses_and_the_time_left_are_shown(console):
    event = {
        "kind": "round",
        "round": 2,
        "loss": 0.25,
        "metrics": {"train_loss": 1.0, "accuracy": 0.5},
        "seconds": 30.0,
    }
    with LiveProgress(5, console) as live:
        live(clients(10))
        assert "training" in drawn(console)
        live(event)
        shown = drawn(console)
    for piece in ("rounds", "2/5", "loss 0.25, accuracy 0.5, train_loss 1, 1 min 30 s left"):
        assert piece in shown


def test_a_million_clients_do_not_mean_a_million_drawings(console):
    clock = Clock()
    with LiveProgress(5, console, now=clock) as live:
        drawn(console)
        clock.now_s = 1.0
        live(clients(1, 1000))
        assert "1/1000" in drawn(console)
        live(clients(2, 1000))
        assert drawn(console) == ""
        clock.now_s = 1.2
        live(clients(3, 1000))
        assert "3/1000" in drawn(console)
        live(clients(1000, 1000))
        assert "1000/1000" in drawn(console)


def test_warnings_and_failures_stay_on_the_screen(console):
    with LiveProgress(5, console) as live:
        live({"kind": "warning", "round": 1, "text": "metric [red] is odd"})
        live({"kind": "round", "round": 1, "failures": [["7", "no disk"]], "participants": 2})
    shown = drawn(console)
    assert "warning: metric [red] is odd" in shown
    assert "1 failed (client 7: no disk)" in shown


def test_there_is_no_thread_that_would_keep_the_pool_from_forking(console):
    before = threading.active_count()
    with LiveProgress(5, console):
        assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_has_the_plain_streams(console):
    before = sys.stdout
    with LiveProgress(5, console):
        assert sys.stdout is not before
        child = os.fork()
        if child == 0:
            os._exit(0 if sys.stdout is before else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert sys.stdout is before


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (8.4, "8 s"), (185.0, "3 min 05 s"), (7800.0, "2 h 10 min")]
)
def test_durations_are_for_readers(seconds, text):
    assert duration(seconds) == text
