"""Messages in fewer bytes: whole ones packed with Zstandard, and unpacked piece by piece into room of a known size."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, final

from umbel.errors import ConfigError, ProtocolError
from umbel.wire.protobuf import Bytes
from umbel.wire.target import Target

NAME = "zstd"
LEVEL = 3
# A message that keeps this share of its size is not worth the time that the other side would need.
WORTH = 0.95
# What a stranger's message may make the decoder remember, besides its own room.
WINDOW_BYTES = 8 * 2**20


def available() -> bool:
    """Whether this side can unpack."""
    return importlib.util.find_spec("zstandard") is not None


def checked(compress: str | None) -> str | None:
    """The compression that an operator asks for.

    Raises:
        ConfigError: there is none of this name, or its library is not installed.
    """
    if compress not in (None, NAME):
        raise ConfigError(f'compress must be "zstd" or None, got {compress!r}')
    if compress is not None and not available():
        raise ConfigError("compress='zstd' needs zstandard; install it with: pip install 'umbel[zstd]'")
    return compress


def packed(parts: Sequence[Bytes]) -> bytes | None:
    """All parts as one Zstandard frame; None if that is hardly smaller. May take long: not on an event loop."""
    import zstandard

    views = [memoryview(part).cast("B") for part in parts]
    size = sum(len(view) for view in views)
    work = zstandard.ZstdCompressor(level=LEVEL).compressobj(size=size)
    pieces = [work.compress(view) for view in views]
    whole = b"".join([*pieces, work.flush()])
    return whole if len(whole) < WORTH * size else None


@final
class _Room:
    """Where the library writes what it has unpacked. Apart from `Unpacker`, so that no cycle keeps a large buffer."""

    def __init__(self, buffer: Target) -> None:
        self.buffer, self.done = buffer, 0

    def write(self, data: bytes) -> int:
        end = self.done + len(data)
        if end > len(self.buffer):
            raise ProtocolError(f"a packed message holds more than the {len(self.buffer)} bytes that were announced")
        self.buffer[self.done : end] = data
        self.done = end
        return len(data)


@final
class Unpacker:
    """Writes what comes packed into `buffer`, and never a byte beyond it.

    The library hands over what it has unpacked in blocks of 128 KiB, so that a message of a few bytes that unpacks to
    gigabytes is found out at the first block that does not fit.
    """

    def __init__(self, buffer: Target) -> None:
        import zstandard

        self._room = _Room(buffer)
        self._error: type[Exception] = zstandard.ZstdError
        target: Any = self._room
        self._work: Any = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_writer(target)

    def feed(self, data: Bytes) -> None:
        """Unpack the next piece.

        Raises:
            ProtocolError: it is no such piece, or more comes out than there is room for.
        """
        try:
            self._work.write(data)
        except self._error as error:
            raise ProtocolError(f"a packed message cannot be unpacked: {error}") from None

    def finish(self) -> None:
        """All pieces are here.

        Raises:
            ProtocolError: they do not fill the room.
        """
        done, size = self._room.done, len(self._room.buffer)
        if done != size:
            raise ProtocolError(f"a packed message holds {done} bytes, {size} were announced")
