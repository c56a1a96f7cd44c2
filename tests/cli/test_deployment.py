"""`umbel server` and `umbel node` as people start them: real processes, real TLS, from invitation to revocation."""

import json
import re
import urllib.request

import pytest

from umbel.cli.remote import Remote
from umbel.runtimes.node.card import load_card

from .place import Place, operator


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("deployment"))
    found.fine("new", "hospital")
    yield found
    found.end()


def card_of(place, name, region):
    text = f'name = "{name}"\nrows = 303\nlicence = "internal"\nconsent_basis = "broad consent"\nregion = "{region}"\n'
    (place.folder / f"{name}.toml").write_text(text + f'digest = "{"0a" * 32}"\n')
    return f"{name}.toml"


@pytest.fixture(scope="module")
def address(place):
    """A TLS server with four nodes."""
    address = place.serve("--listen", "127.0.0.1:0")
    for number in range(4):
        code = place.fine("invite", "--name", f"h{number}", "--address", address)
        words = ["--join", code, "--name", f"h{number}", "--partition", str(number), "--folder", f"at-{number}"]
        place.start(f"h{number}", "node", "hospital", *words, "--card", card_of(place, f"h{number}", "ch"))
    place.connected(4, *operator(address))
    return address


def test_a_run_at_the_server_is_shown_kept_and_exported_with_the_bits_of_the_simulation(place, address):
    shown = place.fine("run", "hospital", "--set", "num_rounds=3", *operator(address))
    assert "finished after round 3" in shown
    listed = json.loads(place.fine("ls", "--json", *operator(address)))
    assert [(run["status"], run["round"]) for run in listed][-1] == ("finished", 3)
    assert "FedAvg" in place.fine("show", "last", *operator(address))
    assert place.fine("logs", *operator(address)).splitlines()[-1] == "finished after round 3"
    audited = place.fine("audit", "verify", "last", *operator(address))
    assert "are signed by a key that the server's CA vouches for" in audited
    assert "came later" not in audited
    kept = "at-0/receipts.jsonl"
    checked = place.fine("audit", "check", kept).splitlines()
    assert len(checked) == 3
    assert all("signed by a key that the node's CA vouches for" in line for line in checked)
    card = load_card(place.folder / "h0.toml").fingerprint
    assert all(f"of h0 under the data card {card}" in line for line in checked)
    place.fine("audit", "verify", "last", "--seen", kept, *operator(address))
    (place.folder / "proofs.jsonl").write_text(place.fine("audit", "prove", "last", "--node", "h0", *operator(address)))
    ca = ["--ca", ".umbel/server/identity/ca.crt"]
    assert len(place.fine("audit", "check", "proofs.jsonl", *ca).splitlines()) == 3
    place.fine("export", "last", "deployed.safetensors", *operator(address))
    place.fine("run", "hospital", "--set", "num_rounds=3")
    place.fine("export", "last", "simulated.safetensors")
    assert (place.folder / "deployed.safetensors").read_bytes() == (place.folder / "simulated.safetensors").read_bytes()


def test_a_stopped_run_is_resumed_at_the_server(place, address):
    long = ["--set", "num_rounds=400", "--set", "local_steps=300"]
    place.start("run", "run", "hospital", *long, *operator(address))
    place.until(lambda: "round 1," in place.log("run"))
    assert "stops" in place.fine("stop", "last", *operator(address))
    place.until(lambda: "interrupted after round" in place.log("run"))
    refused = place.call("stop", "last", *operator(address))
    assert refused.returncode == 2
    assert "is not under way" in refused.stderr
    # Rounds cannot be taken back, so a resumed run that is stopped again shows that it went on.
    place.start("again", "resume", "last", *operator(address))
    before = len(re.findall(r"^round ", place.log("again"), re.M))
    place.until(lambda: len(re.findall(r"^round ", place.log("again"), re.M)) > before)
    place.fine("stop", "last", *operator(address))


def test_a_viewer_may_look_and_not_touch(place, address):
    code = place.fine("invite", "--role", "viewer", "--name", "vera", "--address", address)
    assert "joined" in place.fine("join", code, "--name", "vera", "--as", "vera")
    as_vera = ["--server", address, "--as", "vera"]
    assert "nodes are connected" in place.fine("nodes", *as_vera)
    refused = place.call("run", "hospital", *as_vera)
    assert refused.returncode == 2
    assert "this takes the role researcher, yours is viewer" in refused.stderr


def test_without_a_certificate_there_is_nothing_to_see(place, address):
    refused = place.call("nodes", "--server", address, "--as", "nobody")
    assert refused.returncode != 0
    assert "join a server first" in refused.stderr
    remote = Remote(address, None)
    assert remote  # plaintext against TLS is told, too
    plain = place.call("nodes", "--server", address, "--insecure")
    assert plain.returncode != 0
    assert "with or without TLS" in plain.stderr
    assert "Traceback" not in plain.stderr


def test_a_used_code_a_mistyped_code_and_another_app_are_refused_in_a_sentence(place, address):
    code = place.fine("invite", "--name", "late", "--address", address)
    place.fine("join", code, "--name", "late", "--as", "late")
    used = place.call("join", code, "--name", "late2", "--as", "late2")
    assert used.returncode != 0
    assert "Traceback" not in used.stderr
    mistyped = place.call("join", code[:-3] + ("a" if code[-3] != "a" else "b") + code[-2:], "--name", "x", "--as", "x")
    assert mistyped.returncode != 0
    assert "Traceback" not in mistyped.stderr
    place.fine("new", "other")
    unknown = place.call("run", "other", *operator(address))
    assert unknown.returncode == 2
    assert "has no app 'other'; installed are hospital" in unknown.stderr


def test_a_revoked_node_is_cut_off_at_once_and_stays_out(place, address):
    place.fine("revoke", "h3", *operator(address))
    place.until(lambda: "refuses this node" in place.log("h3"))
    assert place.processes["h3"].wait(timeout=20) != 0
    place.connected(3, *operator(address))
    again = place.call("node", "hospital", "--folder", "at-3", "--partition", "3")
    assert again.returncode != 0
    assert "revoked" in again.stderr
    assert "h3" in place.fine("members")


def test_a_policy_that_forbids_the_strategy_is_seen_at_the_server(place):
    (place.folder / "policy.toml").write_text('[strategies]\nallow = ["Scaffold"]\n')
    address = place.serve("--insecure", "--folder", "lonely", "--listen", "127.0.0.1:0", name="lonely")
    where = ["--server", address, "--insecure"]
    words = ["--name", "picky", "--policy", "policy.toml", "--folder", "at-picky"]
    place.start("picky", "node", "hospital", *where, *words)
    place.start("waits", "run", "hospital", "--set", "num_rounds=2", *where)
    place.until(lambda: "refuses" in place.call("nodes", *where).stdout)
    assert "strategies.allow" in place.fine("nodes", *where)
    place.until(lambda: "node picky does not take part" in place.log("waits"))
    assert "waiting for nodes: " in place.log("waits")


def test_a_node_whose_data_are_from_elsewhere_is_refused_with_the_reason(place):
    folder = ["--folder", "abroad"]
    address = place.serve("--listen", "127.0.0.1:0", *folder, name="abroad")
    where = ["--server", address, "--as", "abroad/operator"]
    place.fine("federation", "set", "default", "--region", "eu", "--region", "ch", *folder)
    assert "eu, ch" in place.fine("federation", "show", "default", *folder)
    for name, words in {"far": ["--card", card_of(place, "far", "us")], "bare": []}.items():
        code = place.fine("invite", "--name", name, "--address", address, *folder)
        place.start(name, "node", "hospital", "--join", code, "--name", name, "--folder", f"at-{name}", *words)
    place.start("none", "run", "hospital", "--set", "num_rounds=1", *where)
    place.until(lambda: place.call("nodes", *where).stdout.count("refuses") == 2)
    nodes = place.fine("nodes", *where)
    assert "takes data from eu, ch only, and the node's data card says 'us'" in nodes
    assert "takes data from eu, ch only, and the node has no data card" in nodes
    place.fine("federation", "set", "default", "--all-regions", *folder)
    assert "eu" not in place.fine("federation", "show", "default", *folder)


def test_an_insecure_server_says_so_and_answers_probes(place):
    address = None
    place.start("plain", "server", "--app", "hospital", "--insecure", "--folder", "plain", "--listen", "127.0.0.1:0")
    pattern = re.compile(r"^listening at (\S+) ", re.M)
    address = place.until(lambda: pattern.findall(place.log("plain")))[-1]
    place.until(lambda: "warning: this server is insecure" in place.log("plain"))
    with urllib.request.urlopen(f"http://{address}/v1/health") as answer:
        assert json.loads(answer.read())["status"] == "ok"
    with urllib.request.urlopen(f"http://{address}/v1/openapi.json") as answer:
        described = json.loads(answer.read())
    assert set(described["paths"]) >= {"/v1/runs", "/v1/nodes", "/v1/runs/{run}/events"}
    assert "0 nodes are connected" in place.fine("nodes", "--server", address, "--insecure")


@pytest.mark.parametrize(
    ("words", "piece"),
    [
        (["--expires", "-1"], "--expires is in hours, above 0"),
        (["--expires", "nan"], "--expires is in hours, above 0"),
        (["--address", "https://fl.example.org:8080"], "try fl.example.org:8080"),
        (["--address", "tcp://fl.example.org:9000"], "try fl.example.org:9000"),
        (["--address", "ws://fl.example.org:8443"], "try fl.example.org:8080, and name another door with umbel node"),
        (["--address", "grpc://fl.example.org:50051"], "without grpc://"),
    ],
)
def test_an_invitation_that_cannot_work_is_refused(place, address, words, piece):
    refused = place.call("invite", *words)
    assert refused.returncode == 2
    assert piece in refused.stderr
