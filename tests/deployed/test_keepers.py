"""What a node keeps between asks: the same laws in memory and on disk."""

import sqlite3

import pytest

from umbel.errors import StoreError
from umbel.runtimes.node.disk import DiskKeeper
from umbel.runtimes.node.keep import KeptTurn, MemoryKeeper


@pytest.fixture(params=["memory", "disk"])
def keeper(request, tmp_path):
    if request.param == "memory":
        yield MemoryKeeper()
        return
    kept = DiskKeeper(tmp_path / "node.db")
    yield kept
    kept.close()


def test_an_unsettled_answer_is_found_by_the_very_same_ask_only(keeper):
    keeper.keep(KeptTurn("run", 1, 0, None, [b"answer"], "ask"))
    assert keeper.answer("run", 1, 0, "ask") == [b"answer"]
    assert keeper.answer("run", 1, 0, "another ask") is None
    assert keeper.answer("run", 1, 1, "ask") is None
    assert keeper.answer("other", 1, 0, "ask") is None


def test_a_later_answer_replaces_the_one_before(keeper):
    keeper.keep(KeptTurn("run", 1, 0, b"one", [b"first"], "a"))
    keeper.keep(KeptTurn("run", 2, 0, b"two", [b"second"], "b"))
    assert keeper.answer("run", 1, 0, "a") is None
    assert keeper.answer("run", 2, 0, "b") == [b"second"]
    assert keeper.state("run", (1, 0)) == b"one"


def test_a_settled_answer_is_forgotten_and_its_state_kept_if_it_was_included(keeper):
    keeper.keep(KeptTurn("run", 1, 0, b"one", [b"first"], "a"))
    keeper.settle("run", 1, 0, included=True)
    assert keeper.answer("run", 1, 0, "a") is None
    assert keeper.state("run", (1, 0)) == b"one"
    keeper.keep(KeptTurn("run", 2, 0, b"two", [b"second"], "b"))
    keeper.settle("run", 2, 0, included=False)
    assert keeper.state("run", (2, 0)) is None
    assert keeper.state("run", (1, 0)) == b"one"


def test_the_newest_three_states_stay(keeper):
    for number in range(1, 7):
        keeper.keep(KeptTurn("run", number, 0, f"{number}".encode(), [b"answer"], "a"))
        keeper.settle("run", number, 0, included=True)
    kept = [number for number in range(1, 7) if keeper.state("run", (number, 0)) is not None]
    assert kept == [4, 5, 6]


def test_a_run_that_is_over_is_forgotten(keeper):
    keeper.keep(KeptTurn("run", 1, 0, b"one", [b"first"], "a"))
    keeper.keep(KeptTurn("other", 1, 0, b"other", [b"first"], "a"))
    keeper.forget("run")
    assert keeper.state("run", (1, 0)) is None
    assert keeper.state("other", (1, 0)) == b"other"
    assert keeper.state("run", None) is None


def test_the_disk_keeps_over_a_restart_and_leaves_nothing_of_a_settled_answer(tmp_path):
    path = tmp_path / "node.db"
    keeper = DiskKeeper(path)
    keeper.keep(KeptTurn("run", 1, 0, b"state", [b"A-MARKER" * 1000], "a"))
    keeper.close()
    assert path.stat().st_mode & 0o777 == 0o600
    keeper = DiskKeeper(path)
    assert keeper.done_today() == 1
    assert keeper.answer("run", 1, 0, "a") == [b"A-MARKER" * 1000]
    keeper.settle("run", 1, 0, included=True)
    keeper.close()
    assert b"A-MARKER" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_file_that_is_none_of_a_nodes_is_refused(tmp_path):
    path = tmp_path / "node.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match="cannot use the node's file"):
        DiskKeeper(path)
    with pytest.raises(StoreError, match="cannot use the node's file"):
        DiskKeeper(tmp_path / "missing" / "node.db")


DAY_S = 86_400.0


def opened(path, now_s, days=30.0):
    return DiskKeeper(path, state_days=days, clock=lambda: now_s[0])


def worked(keeper, run):
    keeper.keep(KeptTurn(run, 1, 0, f"OF-{run}".encode(), [f"ANSWER-{run}".encode()], "a"))


def test_a_run_that_nobody_worked_on_for_too_long_is_forgotten_after_the_next_turn(tmp_path):
    now_s = [0.0]
    keeper = opened(tmp_path / "node.db", now_s)
    for run in ("old", "busy"):
        worked(keeper, run)
    keeper.settle("old", 1, 0, included=True)
    now_s[0] = 29 * DAY_S
    worked(keeper, "busy")
    assert keeper.state("old", (1, 0)) == b"OF-old"
    now_s[0] = 31 * DAY_S
    worked(keeper, "new")
    assert keeper.state("old", (1, 0)) is None
    assert keeper.state("busy", (1, 0)) == b"OF-busy"
    assert keeper.answer("busy", 1, 0, "a") == [b"ANSWER-busy"]
    keeper.close()
    assert b"OF-old" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_what_is_too_old_is_forgotten_when_the_node_starts(tmp_path):
    now_s = [0.0]
    keeper = opened(tmp_path / "node.db", now_s)
    worked(keeper, "left behind")
    keeper.close()
    now_s[0] = 31 * DAY_S
    keeper = opened(tmp_path / "node.db", now_s, days=None)
    assert keeper.state("left behind", (1, 0)) is not None
    keeper.close()
    keeper = opened(tmp_path / "node.db", now_s)
    assert keeper.state("left behind", (1, 0)) is None
    assert keeper.answer("left behind", 1, 0, "a") is None
    keeper.close()


def test_the_days_of_what_was_kept_before_they_were_counted_begin_now(tmp_path):
    keeper = DiskKeeper(tmp_path / "node.db")
    worked(keeper, "early")
    keeper.close()
    db = sqlite3.connect(tmp_path / "node.db")
    db.execute("DROP TABLE used")
    db.close()
    now_s = [100 * DAY_S]
    for day, there in ((100, True), (129, True), (131, False)):
        now_s[0] = day * DAY_S
        keeper = opened(tmp_path / "node.db", now_s)
        assert (keeper.state("early", (1, 0)) is not None) is there
        keeper.close()
