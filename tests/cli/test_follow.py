"""A run at a server is followed to its end, whatever becomes of the server meanwhile."""

import re
import signal

import pytest

from umbel.cli import follow
from umbel.cli.remote import Remote
from umbel.errors import LinkError

from .place import Place

ROUND = re.compile(r"^round (\d+),", re.M)


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    found.fine("new", "hospital")
    yield found
    found.end()


def serve(place, port=0):
    return place.serve("--insecure", "--folder", "s", "--listen", f"127.0.0.1:{port}")


def join(place, address, count=2):
    for number in range(count):
        words = ["--insecure", "--server", address, "--folder", f"at-{number}"]
        place.start(f"h{number}", "node", "hospital", *words, "--partition", str(number), "--name", f"h{number}")


def settings(**values):
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def test_the_log_of_a_fast_run_has_each_of_its_rounds(place):
    address = serve(place)
    join(place, address, 4)
    where = ["--server", address, "--insecure"]
    shown = place.fine("run", "hospital", *settings(num_rounds=30, local_steps=1), *where)
    assert "umbel export" in shown, "it ends as a simulation ends: with the table and what can be done"
    assert f"--server {address} --insecure" in shown
    log = place.fine("logs", *where)
    assert [int(found) for found in ROUND.findall(log)][-30:] == list(range(1, 31))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_who_follows_a_run_sees_it_to_its_end_though_the_server_ends_and_comes_back(place, end):
    address = serve(place)
    join(place, address, 4)
    where = ["--server", address, "--insecure"]
    place.start("run", "run", "hospital", *settings(num_rounds=40, local_steps=1000), *where)
    place.until(lambda: len(ROUND.findall(place.log("run"))) >= 1)
    place.start("logs", "logs", "-f", *where)
    place.until(lambda: len(ROUND.findall(place.log("logs"))) >= 3)
    place.processes["server"].send_signal(end)
    place.processes["server"].wait(timeout=40)
    place.until(lambda: "waiting for it up to" in place.log("run"))
    serve(place, int(address.rpartition(":")[2]))
    assert place.processes["run"].wait(timeout=60) == 0, place.log("run")
    assert "finished after round 40" in place.log("run")
    assert place.processes["logs"].wait(timeout=60) == 0
    rounds = [int(found) for found in ROUND.findall(place.log("logs"))]
    assert rounds == list(range(rounds[0], 41)), "each once"


def test_a_server_that_stays_away_is_told_and_is_an_error(place, monkeypatch, capsys):
    monkeypatch.setattr(follow, "PATIENCE_S", 0.0)
    address = serve(place)
    remote = Remote(address, None)
    begun = remote.post("/v1/runs", {"app": "hospital", "settings": {}})["run"]
    lines = Remote.lines

    def dies_on_the_way(self, path):
        for event in lines(self, path):
            place.kill("server")
            yield event

    monkeypatch.setattr(Remote, "lines", dies_on_the_way)
    with pytest.raises(LinkError, match=r"cannot reach|is lost"):
        follow.tell(remote, begun, follow=True, as_json=False)
    assert "waiting for nodes" in capsys.readouterr().out


def test_who_has_seen_enough_leaves_without_a_word(place):
    address = serve(place)
    where = ["--server", address, "--insecure"]
    Remote(address, None).post("/v1/runs", {"app": "hospital", "settings": {}})
    place.start("logs", "logs", "-f", *where)
    place.until(lambda: "waiting for nodes" in place.log("logs"))
    place.processes["logs"].send_signal(signal.SIGINT)
    assert place.processes["logs"].wait(timeout=20) == 130
    assert place.log("logs").splitlines() == ["waiting for nodes: 0 of 4 are ready"]


def test_the_line_about_waiting_follows_the_nodes_that_come(place):
    address = serve(place)
    where = ["--server", address, "--insecure"]
    place.start("run", "run", "hospital", *where)
    place.until(lambda: "waiting for nodes: 0 of 4" in place.log("run"))
    join(place, address, 1)
    place.until(lambda: "waiting for nodes: 1 of 4" in place.log("run"))
