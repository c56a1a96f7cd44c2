#!/usr/bin/env python3
"""Copies the folder of a server or a node, also while it runs: `backup.py FOLDER TARGET`.

SQLite files are copied through SQLite, whole to their last transaction; everything else as it is. TARGET must not be
there yet; it appears when all of it is written. It holds keys, so nobody but you may read it. To restore, put TARGET
where FOLDER was, with FOLDER's owner, and start. Needs the standard library alone.
"""

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

SQLITE = b"SQLite format 3\0"
LEFT_OUT = ("-wal", "-shm", "-journal")


def is_database(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(SQLITE)) == SQLITE


def copy_database(source: Path, target: Path) -> None:
    origin = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(origin, uri=True, timeout=30)) as db, closing(sqlite3.connect(target)) as copy:
        db.backup(copy)
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        raise OSError(f"the copy of {source} is damaged: {verdict}")


def backup(folder: Path, target: Path) -> None:
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.mkdir(mode=0o700, parents=True)
    for source in sorted(folder.rglob("*")):
        place = unfinished / source.relative_to(folder)
        if source.is_dir():
            place.mkdir(mode=0o700)
        elif not source.name.endswith(LEFT_OUT):
            if is_database(source):
                copy_database(source, place)
            else:
                shutil.copyfile(source, place)
    unfinished.rename(target)


if __name__ == "__main__":
    os.umask(0o077)
    if len(sys.argv) != 3 or not Path(sys.argv[1]).is_dir() or Path(sys.argv[2]).exists():
        sys.exit("use: backup.py FOLDER TARGET, with a FOLDER that is there and a TARGET that is not")
    try:
        backup(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"no backup was made: {error}; remove {sys.argv[2]}.unfinished and try again")
