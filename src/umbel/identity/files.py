"""Files that only their owner may read, replaced in one piece: a kill leaves the old bytes or the new ones."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path


def private_folder(folder: Path) -> None:
    """Make `folder` if it is not there; nobody else may look into a new one.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this user may read; it is durable when this returns.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    with _beside(path, data) as written:
        os.replace(written, path)
    _sync_folder(path.parent)


def make_private(path: Path, data: bytes) -> None:
    """The same, but a file that is there already stays: of two who make it at once both find that of one.

    Raises:
        OSError: it cannot be written.
    """
    with _beside(path, data) as written, contextlib.suppress(FileExistsError):
        os.link(written, path)
    _sync_folder(path.parent)


@contextlib.contextmanager
def _beside(path: Path, data: bytes) -> Generator[str]:
    """A durable file with these bytes in the same folder, gone afterwards unless it was renamed."""
    # `mkstemp` makes the file with the mode 0600, so there is no moment at which others could open it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield name
    finally:
        Path(name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # a folder cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
