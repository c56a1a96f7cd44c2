"""`umbel node` from its start to its end, as people start and stop it: real processes, real TLS."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from umbel.identity import Authority, Credentials, make_request, read_code
from umbel.identity.join import JOINED

from .place import ENVIRONMENT, UMBEL, Place

DAY_S = 86_400.0
STOPPING = "stopping: an update that is not settled yet is kept, and a round under way is worked on anew\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("life"))
    found.fine("new", "hospital")
    yield found
    found.end()


@pytest.fixture(scope="module")
def address(place):
    return place.serve("--listen", "127.0.0.1:0")


RAISES = """

class Raises(fl.NumPyClient):
    def fit(self, parameters, config):
        raise ValueError("bad data")


def client_fn(context):
    return Raises()
"""


def invited(place, address, name):
    return place.fine("invite", "--name", name, "--address", address)


class Apart:
    """A node whose two outputs are told apart."""

    def __init__(self, place, folder, words):
        self._place, self._seen, self._files = place, 0, [folder / "out", folder / "err"]
        environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}
        with open(self._files[0], "w") as out, open(self._files[1], "w") as err:
            self.process = subprocess.Popen(words, cwd=place.folder, stdout=out, stderr=err, env=environment)

    @property
    def out(self):
        return self._files[0].read_text()

    @property
    def err(self):
        return self._files[1].read_text()

    def told(self, *texts):
        """The lines that have these in them, one after the other, in what was not looked at before."""
        return [self._place.until(lambda text=text: self._next(text)) for text in texts]

    def _next(self, text):
        lines = self.out.splitlines(keepends=True)
        for number, line in enumerate(lines[self._seen :], self._seen):
            if text in line and line.endswith("\n"):
                self._seen = number + 1
                return line
        return None

    def stop(self, number):
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture
def apart(place, tmp_path):
    started = []

    def start(*words, app="hospital"):
        folder = tmp_path / f"node-{len(started)}"
        folder.mkdir()
        started.append(Apart(place, folder, [*UMBEL, "node", app, *words]))
        return started[-1]

    yield start
    for node in started:
        node.stop(signal.SIGKILL)


def test_the_same_command_starts_a_node_that_has_joined_again(place, address, apart):
    words = ["--join", invited(place, address, "again"), "--name", "again", "--folder", "at-again"]
    first = apart(*words)
    first.told(f"joined {address} as again", "connected to")
    first.stop(signal.SIGKILL)
    identity = (place.folder / "at-again/identity.json").read_bytes()
    apart(*words).told(f"this code was used here before: going on as again of {address}", "connected to")
    assert (place.folder / "at-again/identity.json").read_bytes() == identity
    other = place.call("node", "hospital", *words[:2], "--name", "else", "--folder", "at-again")
    assert other.returncode == 2
    assert "this code made this node again, not else" in other.stderr


def test_a_code_of_another_server_is_refused_and_the_identity_stays(place, address):
    place.fine("join", invited(place, address, "true"), "--name", "true", "--as", "at-true")
    identity = (place.folder / "at-true/identity.json").read_bytes()
    elsewhere = place.serve("--listen", "127.0.0.1:0", "--folder", "other", name="other")
    code = place.fine("invite", "--name", "true", "--address", elsewhere, "--folder", "other")
    for words in (["node", "hospital", "--join", code, "--folder"], ["join", code, "--as"]):
        refused = place.call(*words, "at-true", "--name", "true")
        assert refused.returncode == 1
        assert f"belongs to true at {address}, and this invitation code is of another server" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert (place.folder / "at-true/identity.json").read_bytes() == identity
    assert "joined" in place.fine("join", code, "--name", "true", "--as", "at-other")  # it was not used up


def test_a_code_that_was_used_elsewhere_is_refused_and_a_fresh_one_is_taken(place, address):
    code = invited(place, address, "used")
    place.fine("join", code, "--name", "used", "--as", "at-used")
    (place.folder / "at-used" / JOINED).unlink()  # as if another code had been used here
    used = place.call("join", code, "--name", "used", "--as", "at-used")
    assert used.returncode == 1
    assert "was used already" in used.stderr
    fresh = invited(place, address, "used")
    assert "joined" in place.fine("join", fresh, "--name", "used", "--as", "at-used")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_node_that_is_stopped_says_one_sentence(apart, number, code, place, tmp_path):
    node = apart("--insecure", "--name", "n", "--server", "127.0.0.1:1", "--folder", str(tmp_path / "own"))
    node.told("trying again")
    assert node.stop(number) == code
    assert (node.err if code else node.out).endswith(STOPPING)
    assert "Traceback" not in node.out + node.err
    assert node.err == (STOPPING if code else "")


MIDST = """
import asyncio, os, signal
from umbel.cli import main
from umbel.runtimes.node.agent import Agent

async def run(self):
    os.kill(os.getpid(), signal.SIGTERM)
    print("the turn went on", flush=True)
    await asyncio.Event().wait()

Agent.run = run
main()
"""


def test_sigterm_in_the_midst_of_a_tasks_turn_does_not_cost_it_that_turn(place, tmp_path):
    """A turn that is lost is waited for at the end, for ever."""
    words = ["node", "hospital", "--insecure", "--name", "n", "--folder", str(tmp_path / "own")]
    done = subprocess.run(
        [sys.executable, "-c", MIDST, *words], cwd=place.folder, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"the turn went on\n{STOPPING}"), done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_node_whose_app_never_loads_can_be_stopped(apart, number, code, place, tmp_path):
    name = f"stuck{code}"
    place.fine("new", name)
    (client,) = (place.folder / name).glob("*/client.py")
    client.write_text("import ctypes\nprint('stuck')\nctypes.PyDLL(None).sleep(1000)\n")
    node = apart("--insecure", "--name", "n", "--folder", str(tmp_path / "own"), app=name)
    place.until(lambda: node.err == "stuck\n")
    assert node.stop(number) == code
    assert (node.err if code else node.out).endswith(STOPPING)


def test_what_a_client_prints_is_seen_at_once_beside_the_log_and_not_in_it(apart, place, tmp_path):
    place.fine("new", "talks")
    (client,) = (place.folder / "talks").glob("*/client.py")
    client.write_text(client.read_text() + "\nimport os\nprint('said')\nos.system('echo and by a command')\n")
    words = ["--insecure", "--name", "n", "--server", "127.0.0.1:1", "--folder", str(tmp_path / "own")]
    node = apart(*words, "--log-format", "json", app="talks")
    node.told("trying again")
    assert node.err == "said\nand by a command\n"
    node.stop(signal.SIGTERM)
    for line in node.out.splitlines():
        assert json.loads(line)["event"]


def expired(place, name):
    """A folder whose certificate, of this very server, has ended."""
    past = Authority.open(
        place.folder / ".umbel/server/identity",
        server_name="server",
        hosts=["127.0.0.1"],
        clock=lambda: time.time() - 100 * DAY_S,
    )
    folder = place.folder / f"at-{name}"
    key, request = make_request(name)
    code = past.invite("127.0.0.1:1", name=name)
    certificate = past.enroll(read_code(code).secret, request, name)
    past.close()
    Credentials(past.ca_pem, certificate, key, name, "").save(folder)
    return folder


def test_a_node_whose_certificate_has_ended_says_so_with_the_mend_and_comes_back_with_a_new_code(place, address, apart):
    folder = expired(place, "late")
    words = ["--folder", "at-late", "--server", address]
    node = apart(*words, "--log-format", "json")
    said = [json.loads(line) for line in node.told("trying again", "trying again")]
    assert [line["event"] for line in said] == ["certificate_ended"] * 2
    assert "the certificate of late ended on 20" in said[0]["text"]
    assert "ask for a code from umbel invite --name late, and join with it" in said[0]["text"]
    place.fine("join", invited(place, address, "late"), "--name", "late", "--as", "at-late")
    node.told("connected to")
    assert Credentials.load(folder).why_ended(time.time()) is None


def test_a_file_with_a_new_code_is_looked_at_when_the_certificate_has_ended(place, address, apart):
    expired(place, "filed")
    (place.folder / "code").write_text(invited(place, address, "filed"))
    words = ["--folder", "at-filed", "--name", "filed", "--join-file", "code"]
    node = apart(*words)
    node.told(f"joined {address} as filed", "connected to")
    node.stop(signal.SIGKILL)
    apart(*words).told("connected to")


def children(process):
    """The processes that a process has begun and that are there."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="children are looked up in /proc")
def test_runs_that_end_before_a_client_is_built_leave_no_process_behind(tmp_path):
    place = Place(tmp_path)
    try:
        place.fine("new", "hospital")
        module = tmp_path / "hospital" / "hospital" / "run.py"
        module.write_text(module.read_text().replace("num_clients=len(HOSPITALS)", "num_clients=2"))
        address = place.serve("--insecure", "--folder", "s", "--listen", "127.0.0.1:0")
        where = ["--server", address, "--insecure"]
        for name in ("0", "1"):
            place.start(name, "node", "hospital", *where, "--name", name, "--folder", name, "--partition", name)
        place.connected(2, *where)
        for _ in range(6):
            # One without a round is over as soon as the nodes have heard of it.
            place.fine("run", "hospital", "--set", "num_rounds=0", *where)
        place.fine("run", "hospital", "--set", "num_rounds=1", *where)
        place.until(lambda: not [*children(place.processes["0"]), *children(place.processes["1"])])
    finally:
        place.end()


def for_one(place, client):
    """The app for one node, whose client is another."""
    place.fine("new", "hospital")
    package = place.folder / "hospital" / "hospital"
    module = package / "run.py"
    module.write_text(module.read_text().replace("num_clients=len(HOSPITALS)", "num_clients=1"))
    with open(package / "client.py", "a") as file:
        file.write(client)


def test_the_owner_reads_in_the_nodes_log_that_its_client_fails(tmp_path):
    place = Place(tmp_path)
    try:
        for_one(place, RAISES)
        address = place.serve("--insecure", "--folder", "s", "--listen", "127.0.0.1:0")
        where = ["--server", address, "--insecure"]
        log = ["--log-format", "json"]
        place.start("n", "node", "hospital", *where, *log, "--name", "n", "--folder", "n", "--partition", "0")
        place.connected(1, *where)
        place.call("run", "hospital", "--set", "num_rounds=1", *where)
        place.until(lambda: "turn_failed" in place.log("n"))
        [line] = [json.loads(text) for text in place.log("n").splitlines() if "turn_failed" in text]
        assert (line["ask"], line["round"], line["level"]) == ("fit", 1, "error")
        assert line["reason"].startswith("ValueError: bad data (in fit, client.py line ")
    finally:
        place.end()


COUNTS = """

class Counts(fl.NumPyClient):
    def __init__(self, context):
        self.state = context.state

    def fit(self, parameters, config):
        self.state["turns"] = self.state.get("turns", 0) + 1
        return parameters, 1, {}


def client_fn(context):
    return Counts(context)
"""


def remembered(place):
    """The runs of which the node keeps states."""
    file = sqlite3.connect(f"file:{place.folder / 'n' / 'node.db'}?mode=ro", uri=True)
    try:
        return {run for (run,) in file.execute("SELECT DISTINCT run FROM states")}
    finally:
        file.close()


def test_a_node_that_starts_again_forgets_runs_that_its_policy_does_not_keep_so_long(tmp_path):
    place = Place(tmp_path)
    for_one(place, COUNTS)
    (tmp_path / "keeps.toml").write_text("[keep]\nstate_days = 30\n")
    (tmp_path / "forgets.toml").write_text("[keep]\nstate_days = 1e-9\n")
    try:
        address = place.serve("--insecure", "--folder", "s", "--listen", "127.0.0.1:0")
        where = ["--server", address, "--insecure"]
        own = ["node", "hospital", *where, "--name", "n", "--folder", "n", "--partition", "0"]
        place.start("n", *own, "--policy", "keeps.toml")
        place.connected(1, *where)
        place.start("run", "run", "hospital", "--set", "num_rounds=100000", *where)
        [run] = place.until(lambda: remembered(place))
        place.kill("server")
        place.processes["n"].terminate()
        place.processes["n"].wait(timeout=40)
        # The run is not over, so what its client remembers is there still.
        place.start("again", *own, "--policy", "keeps.toml")
        place.until(lambda: "cannot reach" in place.log("again"))
        assert remembered(place) == {run}
        place.processes["again"].terminate()
        place.processes["again"].wait(timeout=40)
        place.start("later", *own, "--policy", "forgets.toml")
        place.until(lambda: "cannot reach" in place.log("later"))
        assert remembered(place) == set()
    finally:
        place.end()
