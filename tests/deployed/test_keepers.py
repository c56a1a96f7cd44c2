"""What a node keeps between asks: the same laws in memory and on disk."""

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
