"""Two federations on one server, with real nodes and users: neither sees the other, and each keeps to its quotas."""

import asyncio
import csv
import io
import json
import time

import pytest

from umbel.cli.remote import Remote
from umbel.errors import ConfigError
from umbel.identity import Credentials
from umbel.runtimes.mail import Answer, write_answer
from umbel.runtimes.stream import Stream
from umbel.transports.tls import client_tls
from umbel.transports.turns import InTurn
from umbel.wire.channel import Taken
from umbel.wire.packets import OLDEST, VERSION, Hello, Want, Welcome

from .place import Place, operator

pytestmark = pytest.mark.slow
LONG = ["--set", "num_rounds=400", "--set", "local_steps=300"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("federations"))
    found.fine("new", "hospital")
    run = found.folder / "hospital" / "hospital" / "run.py"
    run.write_text(run.read_text().replace("num_clients=len(HOSPITALS)", "num_clients=2"))
    yield found
    found.end()


@pytest.fixture(scope="module")
def address(place):
    """A server with the federations `ward` and `lab`, of two nodes and a user each."""
    address = place.serve("--listen", "127.0.0.1:0")
    for federation in ("ward", "lab"):
        place.fine("federation", "new", federation)
        for number in range(2):
            name = f"{federation}-{number}"
            words = ["--join", invited(place, address, name, federation), "--name", name, "--folder", f"at-{name}"]
            place.start(name, "node", "hospital", *words, "--partition", str(number))
        user = f"{federation}-user"
        code = invited(place, address, user, federation, "--role", "researcher")
        place.fine("join", code, "--name", user, "--as", user)
    for federation in ("ward", "lab"):
        place.until(lambda name=federation: len(there(address, place, name).get("/v1/nodes")["nodes"]) == 2)
    return address


def invited(place, address, name, federation, *words):
    return place.fine("invite", "--name", name, "--address", address, "--federation", federation, *words)


def there(address, place, federation):
    """The server as a federation's user sees it."""
    return Remote(address, place.folder / f"{federation}-user")


def of(address, federation):
    return ["--server", address, "--as", f"{federation}-user"]


def status(remote, run):
    return next(one for one in remote.get("/v1/runs")["runs"] if one["id"] == run)


def ended(place, remote, run):
    place.until(lambda: status(remote, run)["status"] == "finished")


def test_runs_nodes_and_logs_of_one_federation_are_not_there_for_the_other(place, address):
    ward, lab = there(address, place, "ward"), there(address, place, "lab")
    run = ward.post("/v1/runs", {"app": "hospital", "settings": {"num_rounds": 2}})["run"]
    ended(place, ward, run)
    assert [node["name"] for node in lab.get("/v1/nodes")["nodes"]] == ["lab-0", "lab-1"]
    assert lab.get("/v1/runs")["runs"] == []
    for what in ("events", "checkpoints", "checkpoints/2", "model"):
        told = []
        for name in (run, "20000101-000000-abcdef"):
            with pytest.raises(ConfigError) as error:
                lab.data(f"/v1/runs/{name}/{what}")
            told.append(str(error.value).replace(name, "?"))
        assert told[0] == told[1]
        assert "there is no single run" in told[0]
    for what in ("stop", "resume"):
        with pytest.raises(ConfigError, match="there is no single run"):
            lab.post(f"/v1/runs/{run}/{what}", {})
    # The operator's own credentials are of the default federation, and see what is there.
    assert "0 nodes are connected" in place.fine("nodes", *operator(address))


def test_what_a_federation_may_not_see_is_answered_with_404(place, address):
    answer = there(address, place, "lab")._answer(
        *Remote(address, None)._places[0], "GET", "/v1/runs/last/events", None
    )
    assert answer.status == 404


def test_nodes_are_asked_by_runs_of_their_own_federation_alone(place, address):
    lab = there(address, place, "lab")
    run = lab.post("/v1/runs", {"app": "hospital", "settings": {"num_rounds": 2}})["run"]
    ended(place, lab, run)
    rounds = [event for event in lab.lines(f"/v1/runs/{run}/events") if event["kind"] == "round" and event["round"]]
    assert [{name for name, _ in event["clients"]} for event in rounds] == [{"lab-0", "lab-1"}] * 2


def test_a_node_that_knows_anothers_run_and_digest_gets_nothing_of_it(place, address):
    ward = there(address, place, "ward")
    place.start("long", "run", "hospital", *LONG, *of(address, "ward"))
    place.until(lambda: "round 1," in place.log("long"))
    run = ward.get("/v1/runs")["runs"][-1]["id"]
    code = invited(place, address, "spy", "lab")
    place.fine("join", code, "--name", "spy", "--as", "spy")

    async def spied():
        mine = Credentials.load(place.folder / "spy")
        heard, taken = [], asyncio.Semaphore(0)

        def happened(event):
            if isinstance(event, Taken):
                taken.release()
            elif not isinstance(event, Welcome):
                heard.append(event)

        def say_ready(of_run):
            facts = {"capabilities": ["fit", "evaluate"], "schema": None}
            stream.send("ready", write_answer(Answer(of_run, 0, 0, "properties", "spy", facts=facts)), run=of_run)

        link = await InTurn(address).connect(client_tls(mine.ca_pem, mine.certificate_pem, mine.key_pem))
        stream = Stream(link, happened, lambda reason: taken.release())
        stream.say(Hello(VERSION, OLDEST, "spy", b"boot", json.dumps({"apps": {"hospital": ""}})))
        stream.start()
        say_ready(run)
        await taken.acquire()
        # Several times, as the run goes on, and so that what is asked for has the time to come.
        for _ in range(5):
            stream.say(Want(bytes.fromhex(await asyncio.to_thread(digest_of, ward, run)), run))
            say_ready("nowhere")
            await taken.acquire()
        link.abort()
        return heard

    assert asyncio.run(spied()) == []
    assert all(event.get("participants", 2) <= 2 for event in ward.lines(f"/v1/runs/{run}/events"))
    before = ward.get(f"/v1/runs/{run}/checkpoints")["rounds"][-1]
    place.until(lambda: ward.get(f"/v1/runs/{run}/checkpoints")["rounds"][-1] > before)
    place.fine("stop", run, *of(address, "ward"))
    place.processes["long"].wait(timeout=40)


def digest_of(remote, run):
    return remote.data(f"/v1/runs/{run}/model")[1]["umbel-digest"]


def test_a_member_is_revoked_by_an_admin_of_its_own_federation_alone(place, address):
    code = invited(place, address, "lab-admin", "lab", "--role", "admin")
    place.fine("join", code, "--name", "lab-admin", "--as", "lab-admin")
    refused = place.call("revoke", "ward-0", "--server", address, "--as", "lab-admin")
    assert refused.returncode == 2
    assert "there is no member named 'ward-0'" in refused.stderr
    assert "revoked" in place.fine("revoke", "spy", "--server", address, "--as", "lab-admin")


def test_an_app_that_a_federation_may_not_run_is_not_there(place, address):
    place.fine("federation", "set", "lab", "--app", "another")
    lab = there(address, place, "lab")
    assert lab.get("/v1/apps")["apps"] == []
    refused = place.call("run", "hospital", *of(address, "lab"))
    assert refused.returncode == 2
    assert "has no app 'hospital'; installed are none" in refused.stderr
    place.fine("federation", "set", "lab", "--all-apps")
    assert [app["name"] for app in lab.get("/v1/apps")["apps"]] == ["hospital"]


def test_a_run_over_quota_waits_between_rounds_says_why_and_goes_on_when_it_may(place, address):
    ward = there(address, place, "ward")
    spent = sum(row["rounds"] for row in ward.get("/v1/usage")["usage"])
    place.fine("federation", "set", "ward", "--rounds-per-day", str(spent + 2))
    run = ward.post("/v1/runs", {"app": "hospital", "settings": {"num_rounds": 4}})["run"]
    place.until(lambda: status(ward, run)["status"] == "queued" and ward.get(f"/v1/runs/{run}/checkpoints")["rounds"])
    assert ward.get(f"/v1/runs/{run}/checkpoints")["rounds"][-1] == 2
    listed = place.fine("ls", *of(address, "ward"))
    assert "queued" in listed
    assert f"the federation has used {spent + 2} of its {spent + 2} rounds of today" in listed
    place.fine("federation", "set", "ward", "--rounds-per-day", "-1")
    ended(place, ward, run)
    # What waits has its place taken by nobody's loss: the model is that of a run without a quota.
    again = ward.post("/v1/runs", {"app": "hospital", "settings": {"num_rounds": 4}})["run"]
    ended(place, ward, again)
    assert digest_of(ward, run) == digest_of(ward, again)


def test_a_run_over_quota_is_refused_where_the_federation_wants_that(place, address):
    place.fine("federation", "set", "lab", "--rounds-per-day", "0", "--over", "refuse")
    refused = place.call("run", "hospital", *of(address, "lab"))
    assert refused.returncode == 2
    assert "the federation has used" in refused.stderr
    place.fine("federation", "set", "lab", "--rounds-per-day", "-1", "--runs-at-once", "0")
    refused = place.call("run", "hospital", *of(address, "lab"))
    assert "0 runs under way, which is all it may have at once" in refused.stderr
    place.fine("federation", "set", "lab", "--runs-at-once", "-1", "--over", "wait")


def test_a_queued_run_is_stopped_and_resumed(place, address):
    place.fine("federation", "set", "lab", "--runs-at-once", "0")
    lab = there(address, place, "lab")
    run = lab.post("/v1/runs", {"app": "hospital", "settings": {"num_rounds": 2}})["run"]
    assert status(lab, run)["status"] == "queued"
    assert "queued: its federation has 0 runs under way" in status(lab, run)["waits_for"]
    lab.post(f"/v1/runs/{run}/stop", {})
    place.until(lambda: status(lab, run)["status"] == "interrupted")
    place.fine("federation", "set", "lab", "--runs-at-once", "-1")
    lab.post(f"/v1/runs/{run}/resume", {})
    ended(place, lab, run)


def test_runs_on_the_same_nodes_take_turns(place, address):
    ward = there(address, place, "ward")
    settings = {"num_rounds": 400, "local_steps": 300}
    runs = [ward.post("/v1/runs", {"app": "hospital", "settings": settings})["run"] for _ in range(3)]

    def reached(run):
        return max(ward.get(f"/v1/runs/{run}/checkpoints")["rounds"], default=0)

    place.until(lambda: all(reached(run) >= 5 for run in runs))
    assert {status(ward, run)["status"] for run in runs} == {"running"}
    for run in runs:
        ward.post(f"/v1/runs/{run}/stop", {})
    place.until(lambda: all(status(ward, run)["status"] == "interrupted" for run in runs))


def test_a_killed_server_resumes_the_run_among_the_nodes_of_its_federation_alone(place, address):
    ward, lab = there(address, place, "ward"), there(address, place, "lab")
    before = len(lab.get("/v1/runs")["runs"])
    run = ward.post("/v1/runs", {"app": "hospital", "settings": {"num_rounds": 60, "local_steps": 300}})["run"]
    place.until(lambda: ward.get(f"/v1/runs/{run}/checkpoints")["rounds"])
    place.kill("server")
    assert place.serve("--listen", address) == address
    ended(place, ward, run)
    rounds = [event for event in ward.lines(f"/v1/runs/{run}/events") if event["kind"] == "round" and event["round"]]
    assert [event["round"] for event in rounds] == list(range(1, 61))
    assert {name for event in rounds for name, _ in event["clients"]} == {"ward-0", "ward-1"}
    assert len(lab.get("/v1/runs")["runs"]) == before
    assert sum(row["rounds"] for row in ward.get("/v1/usage")["usage"] if row["run"] == run) == 60


def test_usage_is_told_by_federation_run_and_day(place, address):
    rows = list(csv.DictReader(io.StringIO(place.fine("usage", "--csv"))))
    assert {row["federation"] for row in rows} == {"ward", "lab"}
    lab = there(address, place, "lab").get("/v1/usage")["usage"]
    assert {row["federation"] for row in lab} == {"lab"}
    assert sum(int(row["rounds"]) for row in rows if row["federation"] == "lab") == sum(r["rounds"] for r in lab) == 4
    for row in rows:
        assert time.strptime(row["day"], "%Y-%m-%d")
        assert float(row["node_seconds"]) > 0
        assert int(row["bytes_sent"]) > 0
        assert int(row["bytes_received"]) > 0
    assert place.fine("usage").startswith("federation")


def test_federations_are_listed_shown_and_removed(place, address):
    place.fine("federation", "new", "short", "--bytes-per-day", "1000", "--app", "hospital")
    shown = json.loads(place.fine("federation", "show", "short", "--json"))
    assert (shown["bytes_per_day"], shown["apps"], shown["members"]) == (1000, ["hospital"], [])
    assert "no limit" in place.fine("federation", "show", "short")
    names = [one["name"] for one in json.loads(place.fine("federation", "ls", "--json"))]
    assert names == ["default", "lab", "short", "ward"]
    assert {one["name"] for one in json.loads(place.fine("members", "--federation", "ward", "--json"))["members"]} == {
        "ward-0",
        "ward-1",
        "ward-user",
    }
    refused = place.call("federation", "rm", "ward")
    assert refused.returncode != 0
    assert "has 3 members" in refused.stderr
    place.fine("federation", "rm", "short")
    assert "short" not in place.fine("federation", "ls")
