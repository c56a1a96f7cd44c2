"""`Room`: where a server's large arrays lie: mapped from nameless files on the store's disk, so that memory is free."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.errors import StoreFull
from umbel.schema import Schema

SMALL_BYTES = 16 * 2**20


@final
class Room:
    """Space for arrays. What is small stays in memory.

    Only the model and what a strategy keeps of it lie here, never a client's update.

    Args:
        folder: on which disk.
        small_bytes: up to which size arrays stay in memory.
    """

    def __init__(self, folder: Path, *, small_bytes: int = SMALL_BYTES) -> None:
        self._folder, self._small_bytes = folder, small_bytes

    def is_small(self, schema: Schema) -> bool:
        return schema.nbytes <= self._small_bytes

    def make(self, schema: Schema) -> Arrays:
        """Writable arrays with undefined content.

        Raises:
            StoreFull: the disk has no room for them.
        """
        if self.is_small(schema):
            return Arrays.empty(schema)
        buffer = _mapped(self._folder, schema.nbytes)
        buffer[: len(schema.header)] = schema.header_array
        return Arrays(schema, buffer, writable=True)

    def copy(self, arrays: Arrays, leaving: Collection[str] | Schema = ()) -> Arrays:
        """Writable arrays like these; those named in `leaving` have undefined content."""
        left = leaving.by_name if isinstance(leaving, Schema) else leaving
        result = self.make(arrays.schema)
        for name, view in result.views.items():
            if name not in left:
                view[...] = arrays.views[name]
        return result


def fresh(nbytes: int) -> memoryview:
    """Writable bytes whose content is undefined: unlike a `bytearray` they cost nothing before they are written."""
    return np.empty(nbytes, np.uint8).data


def _mapped(folder: Path, nbytes: int) -> NDArray[np.uint8]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve(file.fileno(), nbytes)
            return np.frombuffer(mmap.mmap(file.fileno(), nbytes), np.uint8)
    except OSError as error:
        raise StoreFull(
            f"no room for {nbytes} bytes of a model in {folder} ({error.strerror}); free some space and resume the run"
        ) from error


def reserve(file: int, nbytes: int) -> None:
    """Take so many bytes of the disk, or raise `OSError` now and not later."""
    # A hole for which there is no room on the disk would end the process at the first write to it.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, nbytes)
    else:
        os.ftruncate(file, nbytes)
