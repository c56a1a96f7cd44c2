"""Receipts: what a node is given for an answer that is in a model, and what it shows."""

import json
import stat
from dataclasses import replace

import numpy as np
import pytest

import umbel as fl
from umbel.audit import proof
from umbel.audit.contribution import Contribution
from umbel.audit.key import LogKey, new_pem
from umbel.audit.receipt import (
    MOST_BYTES,
    read_receipt,
    receipt_bytes,
    told_apart,
    why_no_receipt,
    why_not_in,
    write_receipts,
)
from umbel.errors import ConfigError
from umbel.runtimes.node.receipts import ReceiptBook, check_of
from umbel.runtimes.server.events import Settle
from umbel.stores import link

from .site import Site

KEY = LogKey.read(new_pem(), "the test's")
CHECK = link.signatures(key=KEY.public, message=receipt_bytes)


class Mean(fl.NumPyClient):
    def __init__(self, value):
        self.value = value

    def fit(self, parameters, config):
        return [np.array([self.value], np.float32)], 2, {}

    def evaluate(self, parameters, config):
        return 0.0, 2, {}


def client_fn(context):
    return Mean(float(context.client))


class Signed(Site):
    """A run of two rounds with three nodes, whose receipts are kept in `folder`."""

    def __init__(self, folder, **more):
        order = {key: more.pop(key) for key in ("coordinator",) if key in more}
        super().__init__(client_fn, **{"num_rounds": 2, "min_available_clients": 3, **more})
        initial = [np.zeros(1, np.float32)]
        self.order = replace(self.order, log_key=KEY, initial=initial, **order)
        self.books = {name: ReceiptBook(folder / f"{name}.jsonl", CHECK) for name in "123"}
        self.about = {}

    def play_all(self):
        async def story():
            nodes = [
                self.node(name, receipts=book, about=self.about.get(name, {})) for name, book in self.books.items()
            ]
            await self.until(lambda: self.running.done())
            # A receipt comes after the commit, and the goodbye after the receipt.
            await self.until(lambda: all(node.done() or self.kept("1") for node in nodes))

        self.play(story)
        return self.store.events(self.conduct.run)

    def kept(self, name):
        file = self.books[name].path
        return [read_receipt(line) for line in file.read_bytes().splitlines()] if file.exists() else []


@pytest.fixture
def site(tmp_path):
    return Signed(tmp_path)


def test_every_node_gets_a_receipt_for_every_answer_that_is_in_a_model(site):
    events = site.play_all()
    run = site.conduct.run
    for name in "123":
        receipts = site.kept(name)
        assert len({one["signature"] for one in receipts}) == 2  # one for each round
        assert [(one["client"], one["run"], one["round"]) for one in receipts] == [(name, run, 1), (name, run, 2)]
        for one in receipts:
            assert why_no_receipt(one, CHECK) is None
            assert link.verify(run, events, seen=one).problem is None
            assert why_not_in(one, events) is None
            assert one["examples"] == 2.0
    assert not [text for text in site.said if "receipt" in text]


def test_a_round_lists_its_contributions_in_one_order(site):
    events = site.play_all()
    listed = [event["contributions"] for event in events if event["kind"] == "round" and event["round"]]
    assert [[one["client"] for one in entries] for entries in listed] == [["1", "2", "3"]] * 2
    assert len({one["update"] for entries in listed for one in entries}) == 6


def complaints(site):
    return [text for text in site.said if "not in order" in text]


@pytest.mark.parametrize("coordinator", [None, fl.Secure(clip=8.0, weight_cap=8.0)], ids=["plain", "secure"])
def test_the_other_answers_of_a_round_are_not_taken_for_its_update(tmp_path, coordinator):
    site = Signed(tmp_path, fraction_evaluate=1.0, **({} if coordinator is None else {"coordinator": coordinator}))
    site.play_all()
    assert [len(site.kept(name)) for name in "123"] == [2, 2, 2]
    assert not complaints(site)


def test_an_answer_in_a_secure_round_has_a_receipt_that_says_nothing_of_its_weight(tmp_path):
    site = Signed(tmp_path, coordinator=fl.Secure(clip=8.0, weight_cap=8.0))
    events = site.play_all()
    for name in "123":
        assert [one["round"] for one in site.kept(name)] == [1, 2]
        assert all("examples" not in one and why_not_in(one, events) is None for one in site.kept(name))


def test_an_asynchronous_step_gives_receipts_too(tmp_path):
    site = Signed(tmp_path, coordinator=fl.Buffered(concurrency=3, buffer_size=2), num_rounds=3)
    events = site.play_all()
    listed = [one for event in events for one in event.get("contributions", ())]
    assert len(listed) == 6
    receipts = [one for name in "123" for one in site.kept(name)]
    assert receipts
    assert all(why_not_in(one, events) is None and why_no_receipt(one, CHECK) is None for one in receipts)


def test_receipts_wait_for_the_checkpoint_that_makes_a_round_durable(tmp_path):
    site = Signed(tmp_path, num_rounds=3, checkpoint_every=2)
    events = site.play_all()
    first, second, third = site.kept("1")
    assert (first["round"], second["round"], third["round"]) == (1, 2, 3)
    assert first["size"] == second["size"] < third["size"]
    assert all(why_not_in(one, events) is None for one in (first, second, third))


class FailsOnce(fl.NumPyClient):
    """The third one does, in the first attempt."""

    failed = False

    def __init__(self, client):
        self.client = client

    def fit(self, parameters, config):
        if self.client == "3" and not FailsOnce.failed:
            FailsOnce.failed = True
            raise ValueError("not yet")
        return parameters, 2, {}


def test_answers_to_an_attempt_that_was_given_up_are_in_no_round(tmp_path):
    FailsOnce.failed = False
    site = Signed(tmp_path, num_rounds=1, quorum=1.0, round_retries=3)
    site.client_fn = lambda context: FailsOnce(context.client)
    events = site.play_all()
    [listed] = [event["contributions"] for event in events if "contributions" in event]
    assert [(one["client"], one["attempt"]) for one in listed] == [("1", 1), ("2", 1), ("3", 1)]
    assert [(one["round"], one["attempt"]) for one in site.kept("1")] == [(1, 1)]


def test_a_run_that_is_not_signed_gives_none(tmp_path):
    site = Signed(tmp_path)
    site.order = replace(site.order, log_key=None)

    async def story():
        for name, book in site.books.items():
            site.node(name, receipts=book)
        await site.until(lambda: site.running.done())

    site.play(story)
    assert not any(site.kept(name) for name in "123")


# What a receipt shows


@pytest.fixture
def played(site):
    return site.play_all(), site.kept("2"), site.conduct.run


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "round",
        "client",
        "update",
        "examples",
        "event",
        "index",
        "size",
        "root",
        "at_s",
        "count",
        "listed",
        "place",
    ],
)
def test_no_field_of_a_receipt_can_be_another(played, name):
    receipt = dict(played[1][0])
    value = receipt[name]
    receipt[name] = value + 1 if not isinstance(value, str) else value[:-1] + ("1" if value[-1] == "0" else "0")
    assert why_no_receipt(receipt, CHECK) is not None


def test_a_receipt_is_not_in_a_log_that_was_written_anew(played):
    events, [receipt, _], _ = played
    anew = [dict(event) for event in events]
    anew[receipt["index"]]["contributions"] = []
    assert "not the one that the receipt names" in why_not_in(receipt, anew)
    assert "not the one" in why_not_in(receipt, events[: receipt["index"]])
    assert "does not list" in why_not_in({**receipt, "update": "0" * 64}, events)
    assert "does not list" in why_not_in({**receipt, "listed": "0" * 64}, events)
    for path in (receipt["path"][:-1], receipt["path"][::-1], None, 7):
        assert why_no_receipt({**receipt, "path": path}, CHECK) is not None


def test_a_proof_is_made_from_the_log_and_needs_none(played):
    events, receipts, run = played
    found = list(proof.proofs(run, events, "2"))
    assert [one["event"]["round"] for one in found] == [1, 2]
    check = link.signatures(key=KEY.public)
    for one in map(json.loads, map(json.dumps, found)):
        assert proof.why_no_proof(one, check) is None
        assert one["index"] in [receipt["index"] for receipt in receipts]
    assert list(proof.proofs(run, events, "nobody")) == []
    assert proof.unsigned(events[:-1], "2") == 2
    assert list(proof.proofs(run, events[:-1], "2")) == []


def test_no_part_of_a_proof_can_be_another(played):
    events, _, run = played
    check = link.signatures(key=KEY.public)
    for change in (
        lambda one: one.update(client="3", event={**one["event"], "contributions": []}),
        lambda one: one["event"].update(round=9),
        lambda one: one["event"]["contributions"][1].update(update="0" * 64),
        lambda one: one.update(index=one["index"] + 1),
        lambda one: one.update(index=None),
        lambda one: one["proof"].reverse(),
        lambda one: one["proof"].pop(),
        lambda one: one["tree_head"].update(size=one["tree_head"]["size"] + 1),
        lambda one: one["tree_head"].update(run="other"),
        lambda one: one.update(run="other"),
        lambda one: one.pop("tree_head"),
        lambda one: one["event"].update(contributions=7),
    ):
        changed = json.loads(json.dumps(next(proof.proofs(run, events, "2"))))
        change(changed)
        assert proof.why_no_proof(changed, check) is not None


def test_two_roots_of_one_size_are_two_stories(played):
    receipts = played[1]
    assert told_apart(receipts) == []
    forged = {**receipts[0], "root": "0" * 64}
    assert told_apart([*receipts, forged]) == [(receipts[0], forged)]
    assert told_apart([*receipts, {**forged, "run": "another"}]) == []


# The book


def taken(book, data, sent=None, **expected):
    return book.take(data, expected, sent)


def line_of(site):
    return site.books["1"].path.read_bytes().splitlines()[0]


def test_a_receipt_for_something_else_is_said_and_kept(site, tmp_path):
    site.play_all()
    data, book = line_of(site), ReceiptBook(tmp_path / "book", CHECK)
    assert taken(book, data, round=1) is None
    assert "nothing that was sent here has this seal" in taken(book, data, {"0" * 64})
    assert taken(book, data, {"0" * 64, json.loads(data)["update"]}) is None
    assert "card=None" in taken(book, data, card="0" * 64)
    assert len(book.path.read_bytes().splitlines()) == 4
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600


def test_a_receipt_of_another_key_or_of_a_second_story_is_said(site, tmp_path):
    site.play_all()
    data, book = line_of(site), ReceiptBook(tmp_path / "book", CHECK)
    assert taken(book, data) is None
    told = json.loads(data)
    stand = {name: told[name] for name in link.SIGNED}
    listed = Contribution("1", told["round"], told["attempt"], told["update"], told["examples"])
    other = LogKey.read(new_pem(), "another")
    [forged] = write_receipts(other, stand, told["index"], told["event"], [listed])
    assert "not by the one that is trusted" in taken(book, forged)
    [second] = write_receipts(KEY, {**stand, "root": "0" * 64}, told["index"], told["event"], [listed])
    assert "an earlier one said" in taken(book, second)


@pytest.mark.parametrize("data", [b"", b"7", b"[]", b"{}", b'{"kind":"receipt"}', b"\xff", b" " * (MOST_BYTES + 1)])
def test_what_is_no_receipt_is_said_and_not_kept(tmp_path, data):
    book = ReceiptBook(tmp_path / "book")
    assert "is none" in taken(book, data)
    assert not book.path.exists()
    with pytest.raises(ConfigError):
        read_receipt(data)


def test_the_book_is_bounded(site, tmp_path):
    site.play_all()
    data = line_of(site)
    book = ReceiptBook(tmp_path / "book", most_bytes=3 * len(data))
    for _ in range(20):
        assert taken(book, data) is None
    files = sorted(tmp_path.glob("book*"))
    assert [file.name for file in files] == ["book", "book.old"]
    assert sum(file.stat().st_size for file in files) <= 6 * len(data)
    assert check_of(None)(json.loads(data)) is None


def test_who_was_away_gets_the_receipt_when_back(site):
    async def story():
        settled = Settle("3", 7, 0, True, b"of round 7")
        site.desk.do(site.conduct.run, settled)
        site.desk.do(site.conduct.run, replace(settled, round=8, receipt=b""))
        site.node("3", receipts=site.books["3"])
        await site.until(lambda: any("receipt" in text for text in site.said))

    site.play(story)
    [said] = [text for text in site.said if "receipt" in text]
    assert "round 7" in said
    assert "should be a receipt is none" in said
