"""Anonymous shared memory that can grow: no name, nothing left behind after a crash."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

PAGE = mmap.ALLOCATIONGRANULARITY


def anonymous_file() -> int:
    """A file descriptor of memory without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("umbel", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@final
class SharedBytes:
    """One growing region that this process writes and others read."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = 0

    def write(self, parts: Sequence[bytes | memoryview]) -> int:
        """Replace the content; returns its length."""
        total = sum(len(part) for part in parts)
        if total > self.size:
            self.size = -(-total // PAGE) * PAGE
            os.ftruncate(self.fd, self.size)
        offset = 0
        for part in parts:
            view = memoryview(part)
            while len(view):
                written = os.pwrite(self.fd, view, offset)
                offset += written
                view = view[written:]
        return total


def view(fd: int, length: int, offset: int = 0, *, write: bool = False) -> NDArray[np.uint8]:
    """`length` bytes of a shared file, mapped; `offset` must be a multiple of the page size."""
    # A private writable mapping lets torch alias read-only data without a warning; nothing written there is shared.
    access = mmap.ACCESS_WRITE if write else mmap.ACCESS_COPY
    return np.frombuffer(mmap.mmap(fd, length, access=access, offset=offset), np.uint8)


@final
class Arena:
    """Where a worker keeps its sums: blocks of zeroed shared memory, used again each round.

    The parent opens the same blocks by (offset, length).
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._end = 0
        self._size = 0
        self._mapped: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def reset(self) -> None:
        """Give all blocks back."""
        self._end = 0

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """A zeroed block."""
        place = (self._end, max(nbytes, 8))
        self._end += -(-place[1] // PAGE) * PAGE
        fresh = self._end > self._size
        if fresh:
            self._size = self._end
            os.ftruncate(self.fd, self._size)
        block = self.open(*place)
        if not fresh:
            block[:] = 0
        return block[:nbytes]

    def open(self, offset: int, length: int) -> NDArray[np.uint8]:
        """The block at `offset`."""
        key = (offset, max(length, 8))
        if key not in self._mapped:
            if len(self._mapped) > 4096:
                self._mapped.clear()
            self._mapped[key] = view(self.fd, key[1], offset, write=True)
        return self._mapped[key]

    def close(self) -> None:
        """Let go of the file; blocks that are still in use stay mapped."""
        self._mapped.clear()
        os.close(self.fd)

    def locate(self, block: NDArray[np.uint8]) -> tuple[int, int]:
        """(offset, length) of a block that `allocate` gave."""
        address = block.ctypes.data
        for (offset, length), mapped in self._mapped.items():
            if mapped.ctypes.data == address:
                return offset, min(length, block.nbytes)
        raise AssertionError("the block is not of this arena")
