"""Signed tree heads: whatever is changed, cut off or written anew under them is seen."""

import copy
import json
import random
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import umbel as fl
from umbel.audit import proof
from umbel.audit.key import LogKey, key_beside, new_pem
from umbel.audit.notary import Notary
from umbel.audit.tree import root_of
from umbel.errors import ConfigError, StoreError
from umbel.identity import Authority, certificates
from umbel.stores import MemoryStore, RunInfo, SQLiteStore, link

RUN = "a-run"
KEY = LogKey.read(new_pem(), "the test's")
CLOCK_S = 1_700_000_000


def signed_log(count=7, *, every=3, key=KEY, run=RUN, clock=lambda: CLOCK_S):
    """Events with a tree head after every third, and one at the end."""
    store = MemoryStore()
    store.create(RunInfo(run, "", 0.0, "running", {}))
    notary = Notary(run, key, clock=clock, every=every)

    def append(event):
        store.append(run, event)
        notary.noted(event)

    for number in range(count):
        listed = [{"client": "ada", "round": number, "attempt": 0, "update": "0" * 64}]
        append({"kind": "round", "round": number, "loss": 1 / (number + 1), "contributions": listed})
        if notary.is_due:
            append(notary.tree_head(number))
    if (last := notary.tree_head(count)) is not None:
        append(last)
    return store.events(run)


def problem(events, **trust):
    return link.verify(RUN, events, check=link.signatures(**trust)).problem


def test_a_log_is_signed_every_so_often_and_at_its_end():
    events = signed_log()
    assert [event["kind"] == "tree_head" for event in events] == [False] * 3 + [True] + [False] * 3 + [
        True,
        False,
        True,
    ]
    verdict = link.verify(RUN, events, check=link.signatures(key=KEY.public))
    assert (verdict.problem, verdict.tree_heads, verdict.covered, verdict.events) == (None, 3, 9, 10)
    assert verdict.root == root_of([link.digest(event) for event in events])


def test_nothing_new_is_not_signed_again():
    notary = Notary(RUN, KEY)
    assert notary.tree_head(0) is None
    notary.noted({"kind": "begun", "round": 0})
    notary.noted(notary.tree_head(0))
    assert notary.tree_head(0) is None


def test_a_notary_that_reads_the_log_goes_on_as_the_one_that_wrote_it():
    events = signed_log()
    read = Notary(RUN, KEY, events, clock=lambda: CLOCK_S)
    assert read.stand()["root"] == root_of([link.digest(event) for event in events])
    assert read.stand()["head"] == link.digest(events[-1])
    event = {"kind": "round", "round": 9}
    read.noted(event)
    again = Notary(RUN, KEY, [*events, link.linked(event, link.digest(events[-1]))], clock=lambda: CLOCK_S)
    assert again.stand() == read.stand()


def rewritten(events, place, change):
    """The log of somebody who changes an event and then all links after it, but cannot sign."""
    events = copy.deepcopy(events)
    change(events[place])
    last = link.opening(RUN) if place == 0 else link.digest(events[place - 1])
    for event in events[place:]:
        event["previous"] = last
        last = link.digest(event)
    return events


@pytest.mark.parametrize("place", range(9))
def test_a_chain_that_was_written_anew_is_not_the_one_that_was_signed(place):
    events = rewritten(signed_log(), place, lambda event: event.update(loss=0.123))
    assert "tree head" in problem(events)


def test_an_event_that_is_taken_out_with_its_links_mended_is_missed_by_the_next_tree_head():
    events = signed_log()
    del events[5]
    assert "does not fit the events before it" in problem(rewritten(events, 5, lambda event: None))


@pytest.mark.parametrize("name", ["size", "root", "head", "at_s", "key", "signature"])
def test_no_field_of_a_tree_head_can_be_another(name):
    def change(event):
        value = event[name]
        event[name] = value + 1 if isinstance(value, int) else ("1" if value[0] == "0" else "0") + value[1:]

    assert "tree head" in problem(rewritten(signed_log(), 9, change), key=KEY.public)


@pytest.mark.parametrize("name", ["key", "signature"])
@pytest.mark.parametrize("value", [None, "", "xyz", 7, "00"])
def test_a_signature_that_cannot_be_read_is_none(name, value):
    events = rewritten(signed_log(), 9, lambda event: event.update({name: value}))
    assert problem(events).endswith(("that can be read", "is not good"))


def test_a_log_that_somebody_else_signed_is_refused_by_who_knows_the_key():
    other = LogKey.read(new_pem(), "another")
    events = signed_log(key=other)
    assert problem(events) is None
    assert "not by the one that is trusted" in problem(events, key=KEY.public)


def test_a_signature_is_for_one_run():
    moved = [{k: v for k, v in event.items() if k != "previous"} for event in signed_log(3)]
    store = MemoryStore()
    store.create(RunInfo("other", "", 0.0, "running", {}))
    for event in moved[:3]:
        store.append("other", event)
    size, head = 3, link.digest(store.events("other")[-1])
    tree = link.Frontier()
    for event in store.events("other"):
        tree.add(link.digest(event))
    store.append("other", {**moved[3], "size": size, "head": head, "root": tree.root})
    verdict = link.verify("other", store.events("other"), check=link.signatures())
    assert "not good" in verdict.problem


def test_a_log_that_was_cut_off_lacks_a_tree_head_that_was_kept():
    events = signed_log()
    seen = {**events[-1], "run": RUN}
    assert link.verify(RUN, events, seen=seen).problem is None
    assert "cut off" in link.verify(RUN, events[:8], seen=seen).problem
    assert link.verify("another", events, seen=seen).problem is not None


def test_who_can_sign_cannot_write_a_log_anew_unseen_by_who_kept_a_tree_head():
    seen = {**signed_log()[-1], "run": RUN}
    longer = signed_log(12)
    anew = signed_log(12, every=4)
    assert link.verify(RUN, anew, check=link.signatures(key=KEY.public)).problem is None
    assert "written anew" in link.verify(RUN, anew, seen=seen).problem
    # The tree head at the end of the short log is not in the longer one, whose events 8 and 9 are the same.
    early = {**longer[7], "run": RUN}
    assert link.verify(RUN, longer, seen=early).problem is None


def test_a_proof_is_under_the_first_tree_head_that_covers_its_event():
    events = signed_log(9)
    found = list(proof.proofs(RUN, events, "ada"))
    assert [one["tree_head"]["size"] for one in found] == [3, 3, 3, 7, 7, 7, 11, 11, 11]
    check = link.signatures(key=KEY.public)
    assert all(proof.why_no_proof(one, check) is None for one in found)
    assert proof.unsigned(events[:6], "ada") == 2


# Certificates


@pytest.fixture
def authority(tmp_path):
    made = Authority.open(tmp_path / "identity", server_name="hospital", hosts=())
    yield made
    made.close()


def test_a_servers_key_is_its_cas_and_stays(authority, tmp_path):
    key = LogKey.read(authority.log_pem(), "log.pem")
    assert authority.log_pem() == authority.log_pem()
    assert stat.S_IMODE((tmp_path / "identity" / "log.pem").stat().st_mode) == 0o600
    notary = Notary(RUN, key)
    event = {"kind": "begun", "round": 0}
    notary.noted(event)
    events = [link.linked(event, link.opening(RUN))]
    events.append(link.linked(notary.tree_head(0), link.digest(events[0])))
    assert problem(events, ca_pem=authority.ca_pem) is None


def test_a_key_of_another_ca_or_of_none_is_refused(authority, tmp_path):
    other = Authority.open(tmp_path / "other", server_name="other", hosts=())
    certified = signed_log(key=LogKey.read(other.log_pem(), "log.pem"), every=100)
    other.close()
    assert "does not vouch" in problem(certified, ca_pem=authority.ca_pem)
    assert "that can be read" in problem(signed_log(), ca_pem=authority.ca_pem)


def test_a_certificate_for_something_else_vouches_for_no_log(authority):
    real = LogKey.read(authority.log_pem(), "log.pem")
    borrowed = LogKey(KEY.private, real.certificate)
    assert problem(signed_log(key=real, clock=time.time), ca_pem=authority.ca_pem) is None
    assert "does not vouch" in problem(signed_log(key=borrowed, clock=time.time), ca_pem=authority.ca_pem)
    server = LogKey(KEY.private, authority.server_certificates()[1].decode())
    assert "does not vouch" in problem(signed_log(key=server, clock=time.time), ca_pem=authority.ca_pem)


def test_a_certificate_of_the_ca_for_another_use_vouches_for_no_log(authority, tmp_path, monkeypatch):
    folder = tmp_path / "identity"
    ca = certificates.Ca(
        certificates.read_key((folder / "ca.key").read_bytes(), "ca.key"),
        certificates.read_certificate((folder / "ca.crt").read_bytes(), "ca.crt"),
    )
    monkeypatch.setattr(certificates, "LOG_USE", "1.3.6.1.5.5.7.3.2")  # what members' keys are for
    member = certificates.sign_log(ca, KEY.private.public_key(), "ada", time.time())
    key = LogKey(KEY.private, certificates.pem(member).decode())
    assert "does not vouch" in problem(signed_log(key=key, clock=time.time), ca_pem=authority.ca_pem)


def test_a_statement_from_before_its_certificate_is_refused(authority):
    key = LogKey.read(authority.log_pem(), "log.pem")
    assert "does not vouch" in problem(signed_log(key=key), ca_pem=authority.ca_pem)  # signed in 2023


# The key beside a store


def test_a_simulation_on_disk_is_signed_by_the_key_beside_its_store(tmp_path):
    class Still(fl.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

    def run(rounds, **more):
        plan = fl.ServerConfig(num_rounds=rounds, seed=1)
        more |= {"store": tmp_path / "runs.db", "engine": "serial", "progress": False}
        return fl.simulate(lambda context: Still(), 2, config=plan, initial_parameters=[[1.0]], **more)

    first = run(2)
    run(4, resume=first.run)
    store = SQLiteStore(tmp_path / "runs.db")
    events = store.events(first.run)
    store.close()
    key = key_beside(tmp_path)
    verdict = link.verify(first.run, events, check=link.signatures(key=key.public))
    assert (verdict.problem, verdict.covered) == (None, len(events) - 1)
    assert verdict.tree_heads >= 1
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600


def test_of_many_who_make_the_key_at_once_all_find_one(tmp_path):
    found, start = [], threading.Barrier(6)

    def make():
        start.wait()
        found.append(key_beside(tmp_path).public)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["log.key"]


@pytest.mark.parametrize("data", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_is_said(tmp_path, data):
    (tmp_path / "log.key").write_bytes(data)
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        key_beside(tmp_path)


def test_a_key_that_cannot_be_made_is_said(tmp_path):
    with pytest.raises(StoreError, match="cannot be used"):
        key_beside(tmp_path / "nowhere")


# The file by itself


@pytest.fixture
def exported(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [json.dumps({"run": RUN, **event}) + "\n" for event in signed_log()]
    log.write_text("".join(lines))
    return log, lines


def test_any_byte_that_is_another_is_found_by_who_kept_the_last_digest(exported, capsys):
    log, _ = exported
    whole, arguments = log.read_bytes(), [RUN, str(log), link.digest(signed_log()[-1]), "--key", KEY.public]
    assert link.main(arguments) == 0
    rng = random.Random(1)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        log.write_bytes(data)
        same = _events(bytes(data)) == _events(whole)  # such as 1e-05 and 1E-05
        assert link.main(arguments) == (0 if same else 1), data
    capsys.readouterr()


def _events(data):
    try:
        return [json.loads(line) for line in data.decode().splitlines()]
    except ValueError:
        return None


@pytest.mark.parametrize("place", range(10))
def test_any_line_that_is_gone_or_moved_is_found_and_the_last_by_who_kept_it(exported, tmp_path, place, capsys):
    log, lines = exported
    seen = tmp_path / "seen.json"
    seen.write_text(lines[-1])

    def code(changed):
        log.write_text("".join(changed))
        return link.main([RUN, str(log), "--key", KEY.public, "--seen", str(seen)])

    assert code(lines) == 0
    gone = lines[:place] + lines[place + 1 :]
    moved = [*gone[: place - 3], lines[place], *gone[place - 3 :]] if place > 2 else [*gone, lines[place]]
    # The last line is the tree head that was kept: what it signs is still there.
    assert code(gone) == (0 if place == 9 else 1)
    assert code(moved) == 1
    assert code(lines[:place]) == (0 if place == 9 else 1)
    capsys.readouterr()


def test_the_file_checks_signatures_by_itself(tmp_path):
    events = signed_log()
    log, seen = tmp_path / "log.jsonl", tmp_path / "seen.json"
    log.write_text("".join(json.dumps({"run": RUN, **event}) + "\n" for event in events))
    seen.write_text(json.dumps({"run": RUN, **events[7]}))
    alone = tmp_path / "link.py"
    alone.write_text(Path(link.__file__).read_text())

    def ended(*more):
        return subprocess.run([sys.executable, "-I", alone, RUN, log, *more], capture_output=True, text=True)

    fine = ended("--key", KEY.public, "--seen", seen)
    assert (fine.returncode, fine.stderr) == (0, "")
    assert "10 events, unbroken, signed up to event 9; " in fine.stdout
    assert ended("--key", "0" * 64).returncode == 1
    log.write_text("".join(json.dumps(event) + "\n" for event in events[:3]))
    bare = ended("--key", KEY.public)
    assert (bare.returncode, "nobody has signed" in bare.stdout) == (1, True)
    assert ended("--seen", seen).returncode == 1


def test_both_places_name_one_use_of_a_logs_key():
    assert certificates.LOG_USE == link.LOG_USE
