"""Clients that do not end, or leave processes behind: real ones. What they started ends, and the node goes on."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from umbel.runtimes.lineage import family, living_descendants
from umbel.runtimes.node.ward import Ward

from .test_process import PLAN, app_in, linux, story

CLIENT = """
import ctypes, os, signal, subprocess, sys, time
import numpy as np
import umbel as fl

ENDLESS = (
    "import os, sys; new = sys.argv[1] + '.new'; open(new, 'w').write(str(os.getpid())); os.rename(new, sys.argv[1])"
)
SLEEPS, BURNS = ENDLESS + "; import time; time.sleep(1000)", ENDLESS + "\\nwhile True: pass"

def start(program, flag, **more):
    subprocess.Popen([sys.executable, "-c", program, flag], **more)
    while not os.path.exists(flag): time.sleep(0.01)

def escape(program, flag):
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.execv(sys.executable, [sys.executable, "-c", program, flag])
        os._exit(0)
    os.wait()
    while not os.path.exists(flag): time.sleep(0.01)

class Client(fl.NumPyClient):
    def __init__(self, context):
        self.context = context
    def get_parameters(self):
        return [np.zeros(4)]
    def act(self, config):
        what, flag = config.get("what"), config.get("flag", "")
        if what in ("loop in C", "sleep", "loop in Python"): open(flag, "w").close()
        if what == "loop in C": ctypes.PyDLL(None).sleep(1000)
        if what == "sleep": time.sleep(1000)
        if what == "loop in Python":
            while True:
                try: time.sleep(1000)
                except BaseException: pass
        if what == "start": start(SLEEPS, flag)
        if what == "start and loop in C":
            start(SLEEPS, flag)
            escape(SLEEPS, flag + ".escaped")
            open(flag + ".both", "w").close()
            ctypes.PyDLL(None).sleep(1000)
        if what == "escape": escape(SLEEPS, flag)
        if what == "start and crash":
            escape(SLEEPS, flag)
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "fork and crash":
            if not os.fork():
                open(flag, "w").write(str(os.getpid()))
                time.sleep(1000)
            while not (os.path.exists(flag) and open(flag).read()): time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "burn where nobody looks":
            escape(BURNS, flag)
            time.sleep(1000)
        if what == "two of me": os.fork()
        if what == "take time": time.sleep(0.6)
        if what == "kill the guard":
            open(flag, "w").write(str(os.getpid()))
            ctypes.CDLL(None).prctl(1, 0)
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
        if what == "interrupt": raise KeyboardInterrupt
        if what == "exit": sys.exit("no data today")
        if what == "cancel":
            import asyncio
            raise asyncio.CancelledError("gone")
    def fit(self, parameters, config):
        self.act(config)
        return [p + 1 for p in parameters], 3, {"pid": os.getpid(), "round": config["server_round"]}
    def evaluate(self, parameters, config):
        self.act(config)
        return 0.5, 3, {}

def client_fn(context):
    if context.config.get("never_built"):
        open(context.config["never_built"], "w").close()
        ctypes.PyDLL(None).sleep(1000)
    if context.config.get("interrupted"):
        raise KeyboardInterrupt
    return Client(context)

def run(config):
    return fl.Run(strategy=fl.FedAvg())
"""


@pytest.fixture
def app(tmp_path):
    return app_in(tmp_path, CLIENT)


@pytest.fixture
def flag(tmp_path):
    return tmp_path / "flag"


async def comes(flag):
    async with asyncio.timeout(30):
        while not flag.exists():
            await asyncio.sleep(0.005)


async def ends(process):
    """Until a process has ended; one that nobody has waited for counts."""
    async with asyncio.timeout(30):
        while is_there(process):
            await asyncio.sleep(0.01)


def is_there(process):
    if not sys.platform.startswith("linux"):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        return True
    stat = family(process).get(process)
    return stat is not None and stat[0] not in "ZX"


STUBBORN = ["loop in C", "sleep", "loop in Python"]


@pytest.mark.parametrize("what", STUBBORN)
@pytest.mark.parametrize("kind", ["fit", "evaluate"])
def test_a_client_that_goes_on_after_it_was_told_to_end_is_ended_and_other_runs_go_on(app, flag, what, kind):
    async def tell(node):
        await node.worker.start("other", PLAN)
        turn = asyncio.ensure_future(node.play(what, kind=kind, flag=str(flag)))
        await comes(flag)
        node.worker.hurry("r", 0.0)
        failed = (await asyncio.wait_for(turn, 30))[0]
        return failed, (await node.play(run="other"))[0], (await node.play(round=2))[0]

    failed, other, well = story(app, tell, grace_s=0.3)
    reason = f"{kind} did not end when it was told to; its process was ended"
    assert (failed.verdict, failed.reason) == ("failed", reason)
    assert other.verdict == well.verdict == "done"


def test_a_client_that_goes_on_after_the_rounds_deadline_is_ended(app, flag):
    async def tell(node):
        return (await asyncio.wait_for(node.play("loop in C", flag=str(flag), left_s=0.2), 30))[0]

    assert "fit did not end when it was told to" in story(app, tell, grace_s=0.3).reason


def test_a_slow_client_whose_time_is_not_up_is_left_alone(app):
    async def tell(node):
        return (await node.play("take time"))[0], (await node.play("take time", round=2, left_s=1000))[0]

    assert [answer.verdict for answer in story(app, tell, grace_s=0.0)] == ["done", "done"]


def test_a_deadline_is_that_of_one_turn(app):
    async def tell(node):
        await node.worker.start("other", PLAN)
        first, _ = await node.play(left_s=0.3)
        node.worker.hurry("r", 0.0)  # which comes too late to mean anything
        await node.play("take time", run="other")
        return first, (await node.play("take time", round=2))[0]

    first, second = story(app, tell, grace_s=0.1)
    assert first.update.metrics["pid"] == second.update.metrics["pid"]


def test_a_client_that_is_never_built_holds_up_no_other_run_and_ends_with_its_own(app, flag):
    async def tell(node):
        stuck = asyncio.ensure_future(node.worker.start("stuck", {**PLAN, "settings": {"never_built": str(flag)}}))
        await comes(flag)
        await asyncio.wait_for(node.worker.start("other", PLAN), 30)
        node.worker.stop("stuck")
        with pytest.raises(Exception, match="SIGKILL while the client was built"):
            await asyncio.wait_for(stuck, 30)
        return (await node.play(run="other"))[0]

    assert story(app, tell).verdict == "done"


@pytest.mark.parametrize("what", ["start", pytest.param("escape", marks=linux)])
def test_what_a_client_has_started_ends_with_its_run(app, flag, what):
    async def tell(node):
        assert (await node.play(what, flag=str(flag)))[0].verdict == "done"
        started = int(flag.read_text())
        assert is_there(started)
        node.worker.stop("r")
        await ends(started)

    story(app, tell)


@pytest.mark.parametrize("what", ["fork and crash", pytest.param("start and crash", marks=linux)])
def test_what_a_client_has_started_ends_with_it_when_it_crashes(app, flag, what):
    """A fork holds the pipe open, too: the node must not wait for it."""

    async def tell(node):
        failed, _ = await asyncio.wait_for(node.play(what, flag=str(flag)), 30)
        await ends(int(flag.read_text()))
        return failed

    failed = story(app, tell)
    assert failed.verdict == "failed"
    assert "SIGSEGV" in failed.reason


@linux
def test_processor_time_in_a_session_of_its_own_is_counted_and_ended(app, flag):
    async def tell(node):
        failed, _ = await asyncio.wait_for(node.play("burn where nobody looks", flag=str(flag)), 60)
        await ends(int(flag.read_text()))
        return failed

    assert "limits.cpu_seconds_per_round is 1" in story(app, tell, cpu_seconds_per_round=1).reason


@linux
def test_nothing_of_a_client_outlives_a_node_that_is_killed(app, flag):
    """Neither the client, which holds Python's lock in C, nor what it started, nor what left its session."""
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.node.test_process import Node, PLAN
from pathlib import Path
async def main():
    node = Node(Path({str(app)!r}))
    await node.worker.start("r", PLAN)
    await node.play("start and loop in C", flag={str(flag)!r})
asyncio.run(main())
"""
    node = subprocess.Popen([sys.executable, "-c", program])

    async def tell():
        await comes(Path(f"{flag}.both"))
        processes = living_descendants(node.pid)
        assert int(flag.read_text()) in processes
        assert int(Path(f"{flag}.escaped").read_text()) in processes
        assert len(processes) >= 4  # with the guard and the client
        node.kill()
        node.wait()
        for process in processes:
            await ends(process)

    asyncio.run(tell())


def test_a_copy_that_a_client_makes_of_itself_does_not_answer(app):
    async def tell(node):
        await node.play("two of me")
        return [(await node.play(round=number))[0].update.metrics["round"] for number in (2, 3)]

    assert story(app, tell) == [2, 3]


@linux
def test_a_client_that_kills_its_guard_loses_its_turn_when_its_time_is_up(app, flag):
    async def tell(node):
        failed, _ = await asyncio.wait_for(node.play("kill the guard", flag=str(flag), left_s=0.2), 30)
        os.kill(int(flag.read_text()), signal.SIGKILL)  # which nothing else can
        return failed, (await node.play(round=2))[0]

    failed, well = story(app, tell, grace_s=0.3)
    assert failed.verdict == "failed"
    assert well.verdict == "done"


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("interrupt", "KeyboardInterrupt (in act, trial_app.py line "),
        ("exit", "SystemExit: no data today (in act, trial_app.py line "),
        ("cancel", "CancelledError: gone (in act, trial_app.py line "),
    ],
)
@pytest.mark.parametrize("kind", ["fit", "evaluate"])
def test_what_a_client_raises_is_reported_as_what_it_is_and_costs_no_process(app, what, reason, kind):
    async def tell(node):
        before, _ = await node.play()
        failed, _ = await node.play(what, kind=kind)
        after, _ = await node.play(round=2)
        assert before.update.metrics["pid"] == after.update.metrics["pid"]
        return failed

    failed = story(app, tell)
    assert failed.verdict == "failed"
    assert failed.reason.startswith(reason)


def test_an_interruption_while_a_client_is_built_is_reported_as_one(app):
    async def tell(node):
        with pytest.raises(Exception, match=r"^KeyboardInterrupt \(in client_fn"):
            await node.worker.start("s", {**PLAN, "settings": {"interrupted": True}})

    story(app, tell)


def test_an_end_by_a_signal_is_told_by_its_name(app, flag):
    """The guard ends as the client's process did."""
    ward = Ward(1.0)
    told = ward.bear(
        {"app": str(app), "name": "3", "partition": None, "threads": None, "processors": None, "memory_gb": None}
    )
    assert told == {"born": True}
    os.kill(ward.number, signal.SIGTERM)  # as a service manager does to all processes of a service
    asyncio.run(ends(ward.number))
    with pytest.raises(EOFError):
        ward.begin(PLAN)
    assert ward.epitaph() == "was ended by SIGKILL"
    ward.end(wait=True)
