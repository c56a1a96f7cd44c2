"""This machine: versions, open files, disk."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from umbel.runtimes.doctor.finding import Finding

ROOM = "free some space, or move the folder to a larger disk"
FULL_BYTES, TIGHT_BYTES = 100 * 10**6, 10**9
SPARE_FILES = 100
_BOUND = re.compile(r"([\w.-]+)\s*(?:\[[^]]*\])?\s*>=\s*([\d.]+)")


def check_python(version: str, wanted: str) -> Finding:
    """Whether Python is new enough.

    Args:
        version: such as "3.11.2".
        wanted: such as ">=3.11".
    """
    least = wanted.removeprefix(">=")
    if _numbers(version) < _numbers(least):
        return Finding("python", "fail", f"this is Python {version}", f"install Python {least} or later")
    return Finding("python", "ok", f"this is Python {version}")


def bounds(requirements: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(package, lowest version) of what Umbel and its extras need, but for its developers' tools.

    Example:
        >>> list(bounds(["numpy>=1.24", 'torch>=2.1; extra == "torch"', 'pytest>=8; extra == "dev"']))
        [('numpy', '1.24'), ('torch', '2.1')]
    """
    seen: set[str] = set()
    for requirement in requirements:
        what, _, condition = requirement.partition(";")
        found = _BOUND.match(what)
        if found is not None and not re.search(r"extra == .dev.", condition) and found[1] not in seen:
            seen.add(found[1])
            yield found[1], found[2]


def check_packages(wanted: Iterable[tuple[str, str]], path: list[str]) -> Iterator[Finding]:
    """Whether the packages that are installed are new enough; a missing one is passed over, as extras are a choice.

    Args:
        wanted: (package, lowest version).
        path: folders where packages lie, as `sys.path`.
    """
    for name, least in wanted:
        there = next(iter(metadata.distributions(name=name, path=path)), None)
        if there is None:
            continue
        text = f"{name} {there.version} is installed"
        if _numbers(there.version) < _numbers(least):
            yield Finding(name, "fail", text, f"install {least} or later: pip install --upgrade '{name}>={least}'")
        else:
            yield Finding(name, "ok", text)


def check_open_files(limit: int, nodes: int) -> Finding:
    """Whether a server's process may hold a connection to each of `nodes` nodes."""
    text = f"a process may have {limit:,} files and connections open"
    needed = nodes + SPARE_FILES
    if limit < needed:
        mend = f"a server with {nodes:,} nodes needs {needed:,}: ulimit -n {needed} before umbel server"
        return Finding("open files", "fail", text, mend)
    return Finding("open files", "ok", text)


def check_disk(folder: Path, *, full_bytes: int = FULL_BYTES, tight_bytes: int = TIGHT_BYTES) -> Finding:
    """Whether `folder` (or where it would be made) can be written to, and has room.

    Args:
        full_bytes: less room than this fails.
        tight_bytes: less room than this is a warning.
    """
    name = f"disk at {folder}"
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"umbel")
        free = shutil.disk_usage(place).free
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Finding(name, "fail", "no room is left", ROOM)
        mend = "let this user write there, or take another folder with --folder"
        return Finding(name, "fail", f"{place} cannot be written to: {error.strerror or error}", mend)
    text = f"{free / 1e9:.1f} GB are free"
    if free < full_bytes:
        return Finding(name, "fail", f"only {free / 1e6:.0f} MB are free", ROOM)
    return Finding(name, "warn", text, ROOM) if free < tight_bytes else Finding(name, "ok", text)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without zeros at the end: 2.10.0rc1 is (2, 10)."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
