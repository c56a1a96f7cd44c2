"""The data's owner is shown each plan, and nothing runs before a yes."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time

import pytest

from umbel.errors import ConfigError, StoreError
from umbel.runtimes.app import AppFolder
from umbel.runtimes.node.live import NodeLife
from umbel.runtimes.node.reviewer import FILE, Reviewer, agree, agreed
from umbel.runtimes.node.rules import Apps, Policy, digest_of

PLAN = {"run": "r1", "name": "trial", "client_half": {"name": "FedAvg"}, "app": {"name": "heart", "digest": "ab"}}
AGAIN = {**PLAN, "run": "r2", "name": "another"}
OTHER = {**PLAN, "client_half": {"name": "FedProx"}}


class Owner:
    """Answers as told, and keeps what was shown."""

    def __init__(self, *answers):
        self.answers, self.shown = list(answers), []

    def __call__(self, text):
        self.shown.append(text)
        return self.answers.pop(0)


def asked(folder, owner, *plans):
    async def all_of_them():
        reviewer = Reviewer(folder, "The server at x:1", owner)
        return await asyncio.gather(*(reviewer.why_not(plan) for plan in plans))

    return asyncio.run(all_of_them())


def test_a_yes_is_asked_for_once_per_plan_and_outlives_the_process(tmp_path):
    owner = Owner(True)
    assert asked(tmp_path, owner, PLAN, AGAIN, PLAN) == [None, None, None]
    assert asked(tmp_path, Owner(), AGAIN) == [None]
    (text,) = owner.shown
    for word in ("The server at x:1", "client_half.name = FedAvg", "app.digest = ab", digest_of(PLAN), "leaves"):
        assert word in text


def test_a_no_is_a_sentence_and_lasts_for_the_process_alone(tmp_path):
    owner = Owner(False)
    first, second = asked(tmp_path, owner, PLAN, AGAIN)
    assert first == second
    assert "said no" in first
    assert len(owner.shown) == 1
    assert asked(tmp_path, Owner(True), PLAN) == [None]


def test_another_plan_is_another_question(tmp_path):
    owner = Owner(True, False)
    first, second = asked(tmp_path, owner, PLAN, OTHER)
    assert first is None
    assert "said no" in second


def test_without_a_terminal_the_refusal_names_the_way(tmp_path):
    (reason,) = asked(tmp_path, None, PLAN)
    assert f"umbel agree {digest_of(PLAN)}" in reason
    agree(tmp_path, digest_of(PLAN))
    assert asked(tmp_path, None, PLAN, OTHER)[0] is None
    assert asked(tmp_path, None, OTHER) != [None]


def test_what_is_no_digest_and_a_damaged_file_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="64 digits"):
        agree(tmp_path, "abc")
    (tmp_path / FILE).write_text("{")
    with pytest.raises(StoreError, match="agree to the plans anew"):
        agreed(tmp_path)


@pytest.mark.parametrize("review", [True, False])
def test_what_was_agreed_to_counts_as_read_under_the_policy(tmp_path, review):
    strict = Policy(apps=Apps(review="manual"))
    plan = {**PLAN, "per_client_metrics": False}
    life = NodeLife(app=AppFolder(tmp_path, "heart", "ab"), folder=tmp_path, policy=strict, review=review)
    # Who is asked at the terminal is asked about what the policy leaves to a person.
    assert (life._policy().why_not_plan(plan) is None) == review
    agree(tmp_path, digest_of(plan))
    assert life._policy().why_not_plan(plan) is None
    assert (life._policy().why_not_plan({**plan, "rounds": 9}) is None) == review


# On a real terminal

UMBEL = (sys.executable, "-m", "umbel")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def call(folder, *words):
    return subprocess.run([*UMBEL, *words], cwd=folder, capture_output=True, text=True, timeout=90, env=ENVIRONMENT)


def until(condition, log):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return found


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX's")
def test_a_node_waits_for_its_owner_s_yes_on_the_terminal_and_stays_connected(tmp_path):
    pytest.importorskip("starlette")
    import pty

    ours, theirs = pty.openpty()
    processes = []

    def start(name, *words, stdin=subprocess.DEVNULL):
        with open(tmp_path / f"{name}.log", "ab") as out:
            running = subprocess.Popen(
                [*UMBEL, *words], cwd=tmp_path, stdin=stdin, stdout=out, stderr=out, env=ENVIRONMENT
            )
        processes.append(running)
        return tmp_path / f"{name}.log"

    try:
        assert call(tmp_path, "new", "heart").returncode == 0
        log = start("server", "server", "--app", "heart", "--listen", "127.0.0.1:0", "--insecure")
        (address,) = until(lambda: re.findall(r"^listening at (\S+) ", log.read_text(), re.M), log)
        place = ("--server", address, "--insecure")
        (tmp_path / "policy.toml").write_text('[apps]\nreview = "manual"\n')
        for number in range(4):
            words = ("heart", "--name", f"h{number}", "--partition", str(number), "--folder", f"at-{number}", *place)
            review = ("--review",) if number in (0, 1) else ()
            review += ("--policy", "policy.toml") if number == 0 else ()
            node = start(f"h{number}", "node", *words, *review, stdin=theirs if number == 0 else subprocess.DEVNULL)
        until(lambda: "4 nodes are connected" in call(tmp_path, "nodes", *place).stdout, node)
        os.write(ours, b"no\n")  # typed before there was anything to read
        run = start("run", "run", "heart", "--set", "num_rounds=1", *place)
        asking = tmp_path / "h0.log"
        until(lambda: "Take part? [y/N]" in asking.read_text(), asking)
        told = until(
            lambda: (text := call(tmp_path, "nodes", "--json", *place).stdout) and "umbel agree" in text and text, run
        )
        nodes = {node["name"]: node for node in json.loads(told)}
        assert len(nodes) == 4
        assert nodes["h0"]["runs"] == []
        assert nodes["h0"]["refused"] == {}
        assert "rounds = 1\n" in asking.read_text().replace("num_rounds = 1\n", "")
        (digest,) = re.findall(r"digest = (sha256:\w{64})", asking.read_text())
        (reason,) = nodes["h1"]["refused"].values()
        assert f"umbel agree {digest}" in reason
        os.write(ours, b"yes\n")
        listed = ("nodes", "--json", *place)
        until(lambda: {n["name"]: n["runs"] for n in json.loads(call(tmp_path, *listed).stdout)}["h0"], asking)
        assert agreed(tmp_path / "at-0") == {digest}
        assert call(tmp_path, "agree", digest, "--folder", "at-1").returncode == 0
        assert agreed(tmp_path / "at-1") == {digest}
    finally:
        for running in processes:
            running.terminate()
        for running in processes:
            running.wait(timeout=20)
        os.close(ours)
        os.close(theirs)
