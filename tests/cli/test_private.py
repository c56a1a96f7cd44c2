"""A private run of enrolled nodes: what it costs is shown, and a node's budget outlives it."""

import json

import pytest

from .place import Place, operator

pytest.importorskip("dp_accounting")
PRIVATE = """fl.Run(
        privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=2.0, delta=1e-5, sampling="every"),
        coordinator=fl.Secure(),
"""
POLICY = "[privacy]\nrequire_secure_aggregation = true\nrequire_differential_privacy = true\nepsilon_total = 5.0\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("private"))
    found.fine("new", "hospital")
    run = found.folder / "hospital" / "hospital" / "run.py"
    code = run.read_text()
    for before, after in (
        ("fl.Run(\n", PRIVATE),
        ("fl.FedAvg()", 'fl.FedAvg(weighting="uniform")'),
        ('config["seed"])', 'config["seed"], fraction_evaluate=0.0)'),
    ):
        assert code.count(before) == 1
        code = code.replace(before, after)
    run.write_text(code)
    (found.folder / "policy.toml").write_text(POLICY)
    yield found
    found.end()


def test_a_private_run_says_what_it_cost_and_a_second_one_is_refused_by_the_nodes_budgets(place):
    address = place.serve("--listen", "127.0.0.1:0")
    place.enrol(address, 4, "--policy", "policy.toml")
    place.fine("run", "hospital", "--set", "num_rounds=2", *operator(address))
    shown = place.fine("show", "last", *operator(address))
    assert "ε = 2.94 at δ = 1e-05 after 2 releases" in shown
    told = json.loads(place.fine("show", "last", "--json", *operator(address)))
    assert [release["round"] for release in told["privacy"]] == [1, 2]
    assert place.fine("audit", "verify", "last", *operator(address))
    # A node that was restarted remembers.
    place.kill("h0")
    place.start("h0", "node", "hospital", "--folder", "at-0", "--partition", "0", "--policy", "policy.toml")
    place.connected(4, *operator(address))
    place.start("again", "run", "hospital", "--set", "num_rounds=2", *operator(address))
    sentence = "the policy's privacy.epsilon_total is 5, other runs have promised 2.9"
    place.until(lambda: all(sentence in place.log(f"h{number}") for number in range(4)))


def test_what_a_server_cannot_promise_is_one_sentence(place):
    run = place.folder / "hospital" / "hospital" / "run.py"
    code = run.read_text()
    run.write_text(code.replace('sampling="every"', 'sampling="fixed"'))
    address = place.serve("--listen", "127.0.0.1:0", "--insecure", "--folder", "other", name="other")
    refused = place.call("run", "hospital", "--server", address, "--insecure")
    assert refused.returncode == 2
    assert 'use sampling="every" or "turns", with fraction_fit=1.0' in refused.stderr
    assert "Traceback" not in refused.stderr
    run.write_text(code)
