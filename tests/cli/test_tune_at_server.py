"""`umbel tune --server`: the points are runs that the server leads, with the values of the simulation."""

import json

import pytest

from .place import Place, operator


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("tuning"))
    found.fine("new", "hospital")
    yield found
    found.end()


@pytest.fixture(scope="module")
def address(place):
    address = place.serve("--listen", "127.0.0.1:0")
    place.enrol(address, 4)
    return address


TUNE = ("tune", "hospital", "--set", "lr=0.05,0.2", "--set", "num_rounds=2", "--json")


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def values(told):
    return [(line["point"], line["seed"], line["value"], line["error"]) for line in told[:-1]]


def test_points_are_runs_at_the_server_and_the_same_command_reads_them(place, address):
    first = lines(place.fine(*TUNE, *operator(address)))
    assert len(first) == 3
    assert [line["error"] for line in first[:-1]] == [None, None]
    assert values(first) == values(lines(place.fine(*TUNE)))
    listed = json.loads(place.fine("ls", "--json", *operator(address)))
    assert [run["status"] for run in listed] == ["finished", "finished"]
    again = lines(place.fine(*TUNE, *operator(address)))
    assert values(again) == values(first)
    assert all(line["kept"] for line in again[:-1])


def test_a_run_that_was_left_under_way_is_waited_for(place, address):
    words = ("tune", "hospital", "--set", "lr=0.1", "--set", "num_rounds=40", "--json", "--name", "left")
    place.start("tune", *words, *operator(address))
    place.until(lambda: "left" in place.fine("ls", *operator(address)))
    place.kill("tune")
    (run, _) = lines(place.fine(*words, *operator(address)))
    assert (run["error"], run["rounds"]) == (None, 40)
    listed = json.loads(place.fine("ls", "--json", *operator(address)))
    assert sum(one["name"].startswith("left ") for one in listed) == 1


def test_what_a_server_cannot_do_is_refused(place, address):
    pruned = place.call(
        "tune", "hospital", "--set", "lr=0.1:1", "--trials", "3", "--pruner", "median", *operator(address)
    )
    assert pruned.returncode == 2
    assert "--pruner breaks simulations off" in pruned.stderr
