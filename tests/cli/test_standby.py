"""Two servers on one store: the second takes over when the first ends, and runs end in the bits of the undisturbed."""

import json
import re
import urllib.error
import urllib.request

import pytest

from umbel.cli.remote import Remote
from umbel.stores import SQLiteStore

from .place import Place, operator

pytestmark = pytest.mark.slow
LONG = ["--set", "num_rounds=100", "--set", "local_steps=500"]


def health(address, what="health"):
    """(status, body) of a probe of a plaintext server."""
    try:
        with urllib.request.urlopen(f"http://{address}/v1/{what}") as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.fixture
def cluster():
    from stores.cluster import Cluster

    found = Cluster()
    yield found
    found.end()


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    found.fine("new", "hospital")
    yield found
    found.end()


def same_bits(place, where):
    """The newest run's model is that of the same run in a simulation."""
    place.fine("export", "last", "deployed.safetensors", *where)
    place.fine("run", "hospital", *LONG)
    place.fine("export", "last", "simulated.safetensors")
    assert (place.folder / "deployed.safetensors").read_bytes() == (place.folder / "simulated.safetensors").read_bytes()


def newest(place, where):
    """(status, round) of the newest run."""
    shown = place.call("ls", "--json", *where)
    run = json.loads(shown.stdout)[-1] if shown.returncode == 0 else {"status": "unknown", "round": 0}
    return run["status"], run["round"]


def test_a_standby_takes_over_from_a_killed_and_from_a_drained_server_with_the_same_bits_and_members(place):
    first = place.serve("--listen", "127.0.0.1:0", name="one")
    second = place.serve("--listen", "127.0.0.1:0", "--standby", name="two")
    place.until(lambda: "standing by" in place.log("two"))
    both = f"{second},{first}"  # the standby first: whoever asks it is sent on
    as_operator = operator(both)
    refused = place.call("server", "--app", "hospital", "--listen", "127.0.0.1:0")
    assert refused.returncode == 4
    assert "another server leads the runs in" in refused.stderr

    for number in range(4):
        code = place.fine("invite", "--name", f"h{number}", "--address", first)
        words = ["--join", code, "--name", f"h{number}", "--partition", str(number), "--folder", f"at-{number}"]
        place.start(f"h{number}", "node", "hospital", *words, "--server", both)
    place.connected(4, *operator(both))
    assert any("this server stands by" in place.log(f"h{n}") for n in range(4))
    code = place.fine("invite", "--role", "viewer", "--name", "vera", "--address", first)
    place.fine("join", code, "--name", "vera", "--as", "vera")
    place.fine("revoke", "vera", *operator(first))

    place.start("run", "run", "hospital", *LONG, *operator(both))
    place.until(lambda: "round 1," in place.log("run"))
    place.kill("one")
    place.until(lambda: "this one leads now" in place.log("two"))
    refused = place.call("ls", "--server", second, "--as", "vera")
    assert "revoked" in refused.stderr

    again = place.serve("--listen", first, "--standby", name="one")
    assert again == first
    place.until(lambda: "standing by" in place.log("one"))
    # Asked from here, which is faster than a command: the run must not be over before the server is drained.
    remote = Remote(both, place.folder / ".umbel/server/operator")
    before = remote.get("/v1/runs/last/checkpoints")["rounds"][-1]
    place.until(lambda: remote.get("/v1/runs/last/checkpoints")["rounds"][-1] > before)
    place.processes["two"].terminate()
    taken_over = re.compile(r"this one leads now\nrun \S+ \(hospital\) waits for")
    place.until(lambda: taken_over.search(place.log("one")))
    place.until(lambda: newest(place, as_operator) == ("finished", 100), seconds=90)

    same_bits(place, as_operator)


def test_a_standby_lives_and_is_not_ready(place):
    plain = ["--insecure", "--listen", "127.0.0.1:0", "--folder", "plain"]
    first = place.serve(*plain, name="one")
    second = place.serve(*plain, "--standby", name="two")
    place.until(lambda: "standing by" in place.log("two"))
    assert health(second) == (200, {"status": "ok", "role": "stands by", "version": health(first)[1]["version"]})
    assert health(second, "ready")[0] == 503
    assert health(first, "ready")[0] == 200
    place.kill("one")
    place.until(lambda: health(second, "ready")[0] == 200)
    assert health(second)[1]["role"] == "leads"


def test_runs_in_postgresql_outlive_the_server_that_leads_and_the_database_itself(cluster, place):
    shared = ["--insecure", "--folder", "plain", "--store", cluster.url]
    first = place.serve("--listen", "127.0.0.1:0", *shared, name="one")
    second = place.serve("--listen", "127.0.0.1:0", *shared, "--standby", name="two")
    place.until(lambda: "standing by" in place.log("two"))
    refused = place.call("server", "--app", "hospital", "--listen", "127.0.0.1:0", *shared)
    assert refused.returncode == 4
    assert "another server leads the runs in postgresql://" in refused.stderr

    both = ["--server", f"{first},{second}", "--insecure"]
    for number in range(4):
        words = ["--name", f"h{number}", "--partition", str(number), "--folder", f"at-{number}"]
        place.start(f"h{number}", "node", "hospital", *words, *both)
    place.start("run", "run", "hospital", *LONG, *both)
    place.until(lambda: "round 1," in place.log("run"))
    cluster.kill()
    cluster.start()
    remote = Remote(f"{first},{second}", None)
    before = remote.get("/v1/runs/last/checkpoints")["rounds"][-1]
    place.until(lambda: remote.get("/v1/runs/last/checkpoints")["rounds"][-1] > before)
    place.kill("one")
    place.until(lambda: "this one leads now" in place.log("two"))
    place.until(lambda: newest(place, both) == ("finished", 100), seconds=90)
    same_bits(place, both)


def test_a_run_that_the_server_before_still_holds_is_resumed_once_it_lets_go(place):
    plain = ["--insecure", "--listen", "127.0.0.1:0", "--folder", "plain"]
    address = place.serve(*plain, name="one")
    run = Remote(address, None).post("/v1/runs", {"app": "hospital"})["run"]
    place.kill("one")
    before = SQLiteStore(place.folder / "plain" / "runs.db")
    before.claim(run)
    place.serve(*plain, name="two")
    place.until(lambda: f"run {run} is not resumed" in place.log("two"))
    before.close()
    place.until(lambda: f"run {run} (hospital) waits for" in place.log("two"))


def test_a_server_ends_at_once_although_a_run_waits_for_nodes_and_the_run_is_to_go_on(place):
    address = place.serve("--insecure", "--listen", "127.0.0.1:0", "--folder", "plain")
    Remote(address, None).post("/v1/runs", {"app": "hospital"})
    place.processes["server"].terminate()
    assert place.processes["server"].wait(timeout=20) == 0  # a run under way would be waited for for longer
    store = SQLiteStore(place.folder / "plain" / "runs.db")
    assert store.runs()[0].status == "running"
    store.close()
