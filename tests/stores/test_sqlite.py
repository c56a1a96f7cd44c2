"""The store in one SQLite file."""

import subprocess
import sys

from umbel.stores import RunInfo, SQLiteStore


def test_only_this_user_may_read_a_new_store(tmp_path):
    store = SQLiteStore(tmp_path / "runs.db")
    store.create(RunInfo("one", "name", 1.0, "running", {}))
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir() if "lock" not in file.name}
    assert len(modes) == 3, "the file, its log ahead and its index"
    assert set(modes.values()) == {"0o600"}
    store.close()


def test_another_connection_of_the_same_process_leaves_the_locks_of_the_first(tmp_path):
    path = tmp_path / "runs.db"
    store = SQLiteStore(path)
    store.create(RunInfo("one", "name", 1.0, "running", {}))
    beside = store.beside()
    look = f"import sqlite3; db = sqlite3.connect({str(path)!r}); print(db.execute('SELECT id FROM runs').fetchall())"
    seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert "one" in seen.stdout
    # Whoever closes the last connection removes the log; the one that looked was not the last.
    assert path.with_name("runs.db-wal").exists()
    beside.close()
    store.close()
