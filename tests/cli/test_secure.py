"""Secure rounds between real processes over TLS, with nodes that vouch for their keys by their certificates."""

import json
import random
import time

import pytest

from .place import Place, check_same, events, exported, operator

pytestmark = pytest.mark.slow
ROUNDS = ("--set", "num_rounds=5")
RUN = """fl.Run(
        coordinator=fl.Secure() if config["private"] else fl.Secure(clip=8.0, weight_cap=500),
        privacy=PRIVACY if config["private"] else None,
"""
PRIVACY = """
PRIVACY = fl.PrivacyPlan(clip=1.0, noise_multiplier=4.0, delta=1e-5, sampling="every", noise="distributed")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("secure"))
    found.fine("new", "hospital")
    run = found.folder / "hospital" / "hospital" / "run.py"
    code = run.read_text()
    for before, after in (
        ("fl.Run(\n", RUN),
        ("fl.FedAvg()", 'fl.FedAvg(weighting="uniform")'),
        ('config["seed"])', 'config["seed"], fraction_evaluate=1.0 - config["private"])'),
        ("\n\ndef run(", f"{PRIVACY}\n\ndef run("),
    ):
        assert code.count(before) == 1
        code = code.replace(before, after)
    run.write_text(code)
    project = found.folder / "hospital" / "pyproject.toml"
    project.write_text(project.read_text().replace("[tool.umbel.config]\n", "[tool.umbel.config]\nprivate = 0\n"))
    yield found
    found.end()


@pytest.fixture(scope="module")
def address(place):
    found = place.serve("--listen", "127.0.0.1:0")
    place.enrol(found, 4)
    return found


@pytest.fixture(scope="module")
def simulated(place):
    place.fine("run", "hospital", *ROUNDS)
    return exported(place, "last", "simulated")


def test_a_secure_run_of_enrolled_nodes_has_the_bits_of_the_simulation(place, address, simulated):
    shown = place.fine("run", "hospital", *ROUNDS, *operator(address))
    assert "finished after round 5" in shown
    listed = json.loads(place.fine("ls", "--json", *operator(address)))
    assert [(run["status"], run["round"]) for run in listed][-1] == ("finished", 5)
    check_same(simulated, exported(place, "last", "deployed", *operator(address)))


def is_round(event, number):
    return event["kind"] == "round" and event["round"] == number


def killed_in(place, address, numbers, *words):
    """(id, why it ended, its log) of a run whose server is killed at a random moment after rounds of these numbers."""
    seed = random.randrange(10**6)
    print("moments by random.Random", seed)
    draw, before = random.Random(seed), events(place)[0]
    place.start("run", "run", "hospital", *words, *operator(address))
    place.until(lambda: events(place)[0] != before)
    for number in numbers:
        [took_s] = place.until(lambda number=number: [e["seconds"] for e in events(place)[1] if is_round(e, number)])
        time.sleep(draw.random() * took_s)
        place.kill("server")
        assert place.serve("--listen", address) == address
    assert place.processes["run"].wait(timeout=60) == 0, place.log("run")
    run, log = events(place)
    return run, next(event["reason"] for event in log if event["kind"] == "ended"), log


def test_a_secure_run_whose_server_is_killed_within_rounds_ends_in_the_bits_of_the_simulation(
    place, address, simulated
):
    run, reason, log = killed_in(place, address, (1, 3), *ROUNDS)
    assert reason == "finished"
    assert [event["leadership"] for event in log if event["kind"] == "led"] == [1, 2, 3]
    check_same(simulated, exported(place, run, "killed", *operator(address)))


def test_a_private_secure_run_whose_server_is_killed_pays_for_the_lost_round_and_ends(place, address):
    pytest.importorskip("dp_accounting")
    _, reason, log = killed_in(place, address, (2,), "--set", "num_rounds=4", "--set", "private=1")
    assert reason in ("finished", "budget")
    rounds = [event["round"] for event in log if event["kind"] == "round"]
    releases = [event["release"] for event in log if event["kind"] == "release"]
    # Clients made noise for each of them; a kill between two rounds loses none.
    assert releases == list(range(1, 5))
    assert rounds == ([1, 2, 3, 4] if reason == "finished" else [1, 2, 3])
