"""`link.py` by itself: whatever it is given, it answers with a sentence and a code."""

import json
import subprocess
import sys

import pytest

from umbel.audit.contribution import Contribution
from umbel.audit.key import LogKey, new_pem
from umbel.audit.notary import Notary
from umbel.stores import MemoryStore, RunInfo, link

RUN = "a-run"
KEY = LogKey.read(new_pem(), "the test's")


@pytest.fixture
def folder(tmp_path):
    """A log of three events, and a node's receipts: two of this run, one of another."""
    store, notary = MemoryStore(), Notary(RUN, KEY, every=9)
    store.create(RunInfo(RUN, "", 0.0, "running", {}))
    one, lines = Contribution("ada", 1, 0, "0" * 64), []
    for number in range(2):
        event = {"kind": "round", "round": number, "contributions": [one.plain()]}
        store.append(RUN, event)
        lines += notary.receipts([(*notary.noted(event), [one])]).values()
    head = notary.tree_head(1)
    store.append(RUN, head)
    other = Notary("another", KEY).receipts([(0, "0" * 64, [one])]).values()
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"run": RUN, **e}) + "\n" for e in store.log(RUN)))
    (tmp_path / "receipts.jsonl").write_bytes(b"\n".join([*lines, *other]) + b"\n")
    (tmp_path / "other.jsonl").write_bytes(b"\n".join(other))
    (tmp_path / "empty.jsonl").write_text("")
    for name, text in {
        "text": '"hello"',
        "list": "[1]",
        "junk": "junk",
        "number": '{"run": "a-run", "size": []}',
    }.items():
        (tmp_path / f"{name}.json").write_text(text)
    return tmp_path


def ended(folder, *words):
    done = subprocess.run(
        [sys.executable, "-I", link.__file__, RUN, *words], capture_output=True, text=True, cwd=folder
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_an_empty_log_is_none(folder):
    code, said = ended(folder, "empty.jsonl")
    assert (code, said) == (1, f"the log of run {RUN} has no events: nothing can be said of it\n")


def test_a_nodes_receipts_are_read_as_they_are_and_those_of_other_runs_skipped(folder):
    code, said = ended(folder, "log.jsonl", "--seen", "receipts.jsonl", "--key", KEY.public)
    assert (code, "1 statements of other runs were skipped" in said) == (0, True)
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    (folder / "log.jsonl").write_text("".join(lines[:1]))
    code, said = ended(folder, "log.jsonl", "--seen", "receipts.jsonl")
    assert (code, "the first 2 events" in said) == (1, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--ca", "nofile"), "nofile"),
        (("--ca", "junk.json"), "junk.json is no certificate in PEM"),
        (("--key", "12"), "64 digits"),
        (("--seen", "text.json"), "no tree head and no receipt"),
        (("--seen", "list.json"), "no tree head and no receipt"),
        (("--seen", "number.json"), "no tree head and no receipt"),
        (("--seen", "junk.json"), "cannot be read"),
        (("--seen", "empty.jsonl"), "holds nothing of run a-run"),
        (("--seen", "other.jsonl"), "holds nothing of run a-run"),
        (("--plan", "list.json"), "the plan is no JSON object"),
        (("--plan", "nofile"), "nofile"),
    ],
)
def test_what_it_cannot_read_is_a_sentence(folder, words, says):
    code, said = ended(folder, "log.jsonl", *words)
    assert (code, len(said.splitlines())) == (1, 1)
    assert says in said


@pytest.mark.parametrize(
    "line", ['["a"]', "7", '{"kind": [], "round": {}, "previous": 3, "plan": []}', "{}", "[" * 10**5]
)
def test_a_line_that_is_no_event_is_a_sentence(folder, line):
    with open(folder / "log.jsonl", "a") as file:
        file.write(line + "\n")
    code, said = ended(folder, "log.jsonl", "--key", KEY.public)
    assert (code, len(said.splitlines())) == (1, 1)
