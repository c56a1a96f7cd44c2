"""Clients in processes of their own: real ones, which crash, starve, hang and burn processor time."""

import asyncio
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from umbel.arrays import Arrays
from umbel.errors import AppError, NotSupported
from umbel.message import Ask, ClientState, Task
from umbel.runtimes.mail import blobs_of, read_answer, read_letter, write_letter
from umbel.runtimes.memory import read_memory, write_memory
from umbel.runtimes.node.process import GRACE_S, ProcessWorker
from umbel.runtimes.node.rules import Limits
from umbel.runtimes.node.worker import NotBegun

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are kept on Linux only")

CLIENT = """
import os, signal, subprocess, sys, time
import numpy as np
import umbel as fl

class Mute(Exception):
    def __str__(self):
        return 1 / 0

class Client(fl.NumPyClient):
    def __init__(self, context):
        self.context = context
    def get_parameters(self):
        return [np.zeros(4)]
    def fit(self, parameters, config):
        what = config.get("what", "train")
        if what == "die": os.kill(os.getpid(), signal.SIGSEGV)
        if what == "leave": os._exit(7)
        if what == "raise": raise RuntimeError("no data today")
        if what == "mumble": raise Mute()
        if what == "starve": np.ones(2**28)
        if what == "burn":
            while True: pass
        if what == "burn elsewhere":
            subprocess.run([sys.executable, "-c", "while True: pass"])
        if what == "hang":
            open(config["flag"], "w").close()
            time.sleep(1000)
        if what == "wait":
            open(config["flag"], "w").close()
            while not self.context.should_stop(): time.sleep(0.005)
        self.context.state["rounds"] = self.context.state.get("rounds", 0) + 1
        about = {"pid": os.getpid(), "parent": os.getppid(), "rounds": self.context.state["rounds"],
                 "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0}
        return [p + 1 for p in parameters], 3, about
    def evaluate(self, parameters, config):
        return 0.5, 3, {}

def client_fn(context):
    if context.config.get("broken"):
        raise ValueError("no such folder of images")
    return Client(context)

def run(config):
    return fl.Run(strategy=fl.FedAvg())
"""
PLAN = {"client_half": {"name": "FedAvg"}, "settings": {}, "num_clients": 2}


def app_in(folder: Path, client: str = CLIENT) -> Path:
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "trial"\n[tool.umbel]\nclient = "trial_app:client_fn"\nrun = "trial_app:run"\n'
    )
    (folder / "trial_app.py").write_text(client)
    return folder


class Node:
    """A worker that is given asks as an agent would."""

    def __init__(self, folder, grace_s=GRACE_S, **limits):
        self.worker = ProcessWorker(folder, "3", limits=Limits(**limits), grace_s=grace_s)

    async def play(self, what="train", *, kind="fit", round=1, size=4, memory=None, run="r", left_s=math.inf, **config):
        model = Arrays.of([np.zeros(size)])
        shared = np.frombuffer(self.worker.room(model.nbytes), np.uint8)
        shared[:] = model.buffer
        task = Task(round, Arrays.from_buffer(shared), config={"what": what, **config})
        ask = Ask("3", kind, task, key=7)
        parts = write_letter(run, ask, {"": task.arrays.digest}, None, left_s)
        letter = read_letter(memoryview(b"".join(bytes(part) for part in parts)))
        done = await self.worker.play(run, letter, blobs_of(task), memory)
        return read_answer(memoryview(b"".join(done.parts))), done


def story(folder, tell, **limits):
    async def whole():
        node = Node(folder, **limits)
        try:
            await node.worker.start("r", PLAN)
            return await tell(node)
        finally:
            node.worker.close()

    return asyncio.run(whole())


@pytest.fixture
def app(tmp_path):
    return app_in(tmp_path)


def test_a_client_works_in_another_process_which_stays_for_the_run(app):
    async def tell(node):
        first, _ = await node.play(round=1)
        second, _ = await node.play(round=2)
        return first, second

    first, second = story(app, tell)
    assert first.verdict == second.verdict == "done"
    assert first.update.metrics["pid"] == second.update.metrics["pid"] != os.getpid()
    assert first.update.groups["delta"].arrays["0"].tolist() == [1.0] * 4


def test_another_plan_of_a_run_is_played_by_another_process(app):
    """A node counts what the plan that came last promises: nothing may be played by the one before."""

    async def tell(node):
        first, _ = await node.play(round=1)
        await node.worker.start("r", {**PLAN, "rounds": 10_000})
        second, _ = await node.play(round=2)
        return first, second

    first, second = story(app, tell)
    assert first.verdict == second.verdict == "done"
    assert first.update.metrics["pid"] != second.update.metrics["pid"]


def test_each_run_has_a_process_of_its_own(app):
    async def tell(node):
        await node.worker.start("other", PLAN)
        return (await node.play())[0], (await node.play(run="other"))[0]

    one, other = story(app, tell)
    assert one.update.metrics["pid"] != other.update.metrics["pid"]


def test_the_state_goes_in_and_comes_out(app):
    async def tell(node):
        memory = write_memory("3", ClientState({"rounds": 41}, {}, None))
        return await node.play(memory=memory)

    answer, done = story(app, tell)
    assert answer.has_state
    assert read_memory(done.state).user["rounds"] == 42


def test_the_process_has_nothing_of_the_nodes_but_its_pipe(app):
    """The model comes through an open file and is not copied: what the parent writes later is what the child reads."""

    async def tell(node):
        answer, _ = await node.play(size=2**20)
        return answer

    assert len(story(app, tell).update.groups["delta"].arrays["0"]) == 2**20


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("die", "was ended by SIGSEGV"),
        ("leave", "ended with exit code 7"),
        ("raise", "RuntimeError: no data today"),
        ("mumble", "Mute: its message cannot be had, __str__ raises ZeroDivisionError (in fit, trial_app.py line"),
    ],
)
def test_a_client_that_breaks_fails_its_turn_and_works_in_the_next(app, what, sentence):
    async def tell(node):
        return (await node.play(what))[0], (await node.play(round=2))[0]

    failed, well = story(app, tell)
    assert failed.verdict == "failed"
    assert sentence in failed.reason
    assert well.verdict == "done"


@linux
def test_memory_above_the_policys_limit_fails_the_turn_and_says_whose_limit_it_was(app):
    async def tell(node):
        return (await node.play("starve"))[0], (await node.play(round=2))[0]

    starved, well = story(app, tell, memory_gb=1)
    assert starved.verdict == "failed"
    assert "the policy's limits.memory_gb is 1" in starved.reason
    assert well.verdict == "done"


@linux
@pytest.mark.parametrize("what", ["burn", "burn elsewhere"])
def test_processor_time_above_the_policys_limit_ends_the_turn(app, what):
    async def tell(node):
        return (await node.play(what))[0], (await node.play(round=2))[0]

    burnt, well = story(app, tell, cpu_seconds_per_round=1)
    assert burnt.verdict == "failed"
    assert "the policy's limits.cpu_seconds_per_round is 1, " in burnt.reason
    assert well.verdict == "done"


@linux
def test_the_evaluation_has_what_the_training_of_its_round_left(app):
    async def tell(node):
        await node.play("burn", round=4)
        again, _ = await node.play("burn", round=4)
        return again

    began = time.process_time()
    assert story(app, tell, cpu_seconds_per_round=0.5).verdict == "failed"
    assert time.process_time() - began < 30


@linux
def test_threads_are_processors_that_the_client_may_use(app):
    async def tell(node):
        return (await node.play())[0]

    assert story(app, tell, threads=1).update.metrics["processors"] == 1


def test_a_turn_hears_that_time_is_running_out_while_it_works(app, tmp_path):
    async def tell(node):
        flag = tmp_path / "flag"
        turn = asyncio.ensure_future(node.play("wait", flag=str(flag)))
        while not flag.exists():
            await asyncio.sleep(0.005)
        node.worker.hurry("r", 0.0)
        return (await asyncio.wait_for(turn, 20))[0]

    assert story(app, tell).verdict == "done"


def test_the_end_of_a_run_ends_a_client_that_hangs(app, tmp_path):
    async def tell(node):
        flag = tmp_path / "flag"
        turn = asyncio.ensure_future(node.play("hang", flag=str(flag)))
        while not flag.exists():
            await asyncio.sleep(0.005)
        node.worker.stop("r")
        return (await asyncio.wait_for(turn, 20))[0]

    assert (
        story(app, tell).reason == "fit was called off, or its run was over, before it had ended; its process was ended"
    )


def test_a_run_that_was_not_begun_is_refused(app):
    async def tell(node):
        with pytest.raises(NotSupported, match="run other was not begun here"):
            await node.play(run="other")

    story(app, tell)


def test_what_cannot_begin_says_why(app, tmp_path):
    async def whole():
        worker = ProcessWorker(app, "3")
        try:
            with pytest.raises(NotBegun, match="ValueError: no such folder of images"):
                await worker.start("r", {**PLAN, "settings": {"broken": True}})
            with pytest.raises(NotSupported, match="Unheard"):
                await worker.start("r", {**PLAN, "client_half": {"name": "Unheard"}})
        finally:
            worker.close()

    asyncio.run(whole())


def test_an_app_that_does_not_load_is_an_error_at_once(tmp_path):
    app = app_in(tmp_path, "import umbel\nraise ImportError('no GPU here')\n")

    async def whole():
        with pytest.raises(AppError, match="no GPU here"):
            await ProcessWorker(app, "3").warm()

    asyncio.run(whole())


@linux
def test_no_process_outlives_the_node(app, tmp_path):
    """A node is killed while its client hangs: the kernel ends the client."""
    import subprocess

    flag = tmp_path / "flag"
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.node.test_process import Node, PLAN
from pathlib import Path
async def main():
    node = Node(Path({str(app)!r}))
    await node.worker.start("r", PLAN)
    print(node.worker._runs["r"].ward.number, flush=True)
    await node.play("hang", flag={str(flag)!r})
asyncio.run(main())
"""
    node = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(node.stdout.readline())
    while not flag.exists():
        assert node.poll() is None
        time.sleep(0.01)
    node.kill()
    node.wait()
    node.stdout.close()
    until = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.01)
