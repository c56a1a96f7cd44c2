"""`Pipe`: frames between two processes of one machine; what is large goes as an open file and is mapped, not copied."""

from __future__ import annotations

import mmap
import os
import socket
import struct
import weakref
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from umbel.runtimes.shared import anonymous_file, view

_HEAD = struct.Struct("<QB")
MAX_FILES = 200


@final
class Pipe:
    """One end of a socket pair. A message is a frame, which travels as a file of its own, and further open files."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, parts: Sequence[bytes | memoryview], files: Sequence[int] = ()) -> None:
        """Send a frame in parts, and files, which stay open here.

        Raises:
            OSError: nobody reads any more.
        """
        frame, size = written(parts)
        try:
            socket.send_fds(self._end, [_HEAD.pack(size, len(files))], [frame, *files])
        finally:
            os.close(frame)

    def receive(self) -> tuple[NDArray[np.uint8], list[int]]:
        """The next frame, mapped, and its files, which the caller has to close.

        Raises:
            EOFError: the other process is gone.
        """
        head, files = b"", list[int]()
        while len(head) < _HEAD.size:
            try:
                data, more, _, _ = socket.recv_fds(self._end, _HEAD.size - len(head), MAX_FILES + 1)
            except ConnectionError:
                data, more = b"", []
            if not data:
                raise EOFError
            head, files = head + data, [*files, *more]
        size, count = _HEAD.unpack(head)
        if len(files) != count + 1:
            raise EOFError
        frame = view(files[0], size)
        os.close(files[0])
        return frame, files[1:]

    def close(self) -> None:
        self._end.close()


def written(parts: Sequence[bytes | memoryview]) -> tuple[int, int]:
    """(a fresh nameless file that holds the parts, its size)."""
    file, size = anonymous_file(), 0
    try:
        for part in parts:
            rest = memoryview(part).cast("B")
            while len(rest):
                done = os.pwrite(file, rest, size)
                size += done
                rest = rest[done:]
    except OSError:
        os.close(file)
        raise
    return file, size


@final
class Rooms:
    """Memory that can be handed to another process without copying it."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}

    def make(self, nbytes: int) -> memoryview:
        """Fresh writable bytes; their file is closed once nobody has a view on them."""
        if not nbytes:
            return memoryview(b"")
        file = anonymous_file()
        os.ftruncate(file, nbytes)
        region = mmap.mmap(file, nbytes)
        address = np.frombuffer(region, np.uint8).ctypes.data
        self._files[address] = file
        weakref.finalize(region, self._forget, address)
        return memoryview(region)

    def _forget(self, address: int) -> None:
        file = self._files.pop(address, None)
        if file is not None:
            os.close(file)

    def file_of(self, buffer: NDArray[np.uint8]) -> int | None:
        """The file behind a whole room; None if the bytes lie elsewhere."""
        return self._files.get(buffer.ctypes.data)
