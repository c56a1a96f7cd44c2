"""The IDX format of MNIST and its relatives: a short header, then one array."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from umbel.data.samples import AnyArray
from umbel.errors import ConfigError

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
DEFLATE_RATIO_AT_MOST = 1032


class Stream(Protocol):
    """A file opened for reading bytes."""

    def read(self, size: int, /) -> bytes: ...
    def readinto(self, buffer: memoryview, /) -> int: ...


def load_idx(path: str | Path) -> AnyArray:
    """Read an IDX file, gzip-compressed or not (told by its first bytes, not its name).

    The header is checked against the size of the file before memory is taken.

    Args:
        path: the file.

    Returns:
        The array in the shape the header tells, in native byte order.

    Raises:
        ConfigError: no such file, not IDX, cut short, or with bytes left over.

    Example:
        >>> import tempfile, struct
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "labels-idx1-ubyte"
        ...     _ = file.write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", 3) + bytes([7, 8, 9]))
        ...     load_idx(file).tolist()
        [7, 8, 9]

    References:
        Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "file formats",
        http://yann.lecun.com/exdb/mnist/.
    """
    file = Path(path)
    try:
        with file.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            room = file.stat().st_size * (DEFLATE_RATIO_AT_MOST if zipped else 1)
            stream = cast(Stream, gzip.GzipFile(fileobj=raw)) if zipped else cast(Stream, raw)
            return _read(stream, file, room)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"{file}: the gzip data is damaged or cut short ({error}); get the file again") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; an IDX file is needed, check the path") from None


def _read(stream: Stream, file: Path, room: int) -> AnyArray:
    dtype, shape = _read_header(stream, file)
    expected = math.prod(shape) * dtype.itemsize
    if expected > room:
        raise ConfigError(
            f"{file}: the header tells {expected} bytes of shape {shape}, the file cannot hold them; get it again"
        )
    array = np.empty(shape, dtype=dtype)
    filled = 0
    view = memoryview(array.reshape(-1).view(np.uint8))  # pyright: ignore[reportArgumentType]
    while filled < expected:
        got = stream.readinto(view[filled:])
        if not got:
            raise ConfigError(
                f"{file}: cut short, {filled} bytes of the {expected} that its header tells; get it again"
            )
        filled += got
    if stream.read(1):
        raise ConfigError(
            f"{file}: bytes are left over after the {expected} that its header tells; is it one IDX file?"
        )
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: Stream, file: Path) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= 8:
        raise ConfigError(
            f"{file}: not an IDX file, it starts with {magic.hex(' ') or 'nothing'}; allowed are 00 00, a type "
            "(08, 09, 0b, 0c, 0d, 0e) and 1 to 8 dimensions: try load(path) for other formats"
        )
    dimensions = magic[3]
    lengths = stream.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise ConfigError(f"{file}: cut short within its header; get it again")
    return np.dtype(DTYPES[magic[2]]), struct.unpack(f">{dimensions}I", lengths)
