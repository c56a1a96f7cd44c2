"""The store in one SQLite file."""

from umbel.stores import RunInfo, SQLiteStore


def test_only_this_user_may_read_a_new_store(tmp_path):
    store = SQLiteStore(tmp_path / "runs.db")
    store.create(RunInfo("one", "name", 1.0, "running", {}))
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir() if "lock" not in file.name}
    assert len(modes) == 3, "the file, its log ahead and its index"
    assert set(modes.values()) == {"0o600"}
    store.close()
