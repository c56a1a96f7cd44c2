"""Masks: a key stream, added to a vector of 32-bit words where it lies, one piece that fits the cache at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from umbel.privacy.sa1.fields import joined, parted

U32 = NDArray[np.uint32]
PIECE_BYTES = 2**18
_ZEROS = memoryview(bytes(PIECE_BYTES))
_LINE_WORDS = 16
"""Words of 64 bytes, at which every key stream can be entered."""


@final
@dataclass(frozen=True)
class Masks:
    """The masks of one vector, each a key and whether its stream is subtracted. They are secret, and used once."""

    suite: str
    streams: tuple[tuple[bytes, bool], ...]

    def __repr__(self) -> str:
        return f"Masks({len(self.streams)})"

    @property
    def data(self) -> bytes:
        return joined(self.suite.encode(), *(key + bytes([subtract]) for key, subtract in self.streams))

    @classmethod
    def read(cls, data: bytes) -> Masks:
        """The masks whose `data` these are."""
        suite, *streams = parted(data)
        return cls(suite.decode(), tuple((part[:-1], part[-1] == 1) for part in streams))

    def add_to(self, vector: U32) -> None:
        """Mask a vector, where it lies."""
        add_masks(vector, self.streams, self.suite)


def add_masks(vector: U32, masks: Sequence[tuple[bytes, bool]], suite: str, executor: Executor | None = None) -> None:
    """Add the streams of these keys to `vector`, or subtract them, modulo 2^32.

    Args:
        masks: (key of 32 bytes, whether to subtract). A key makes one stream in its life.
        executor: threads that share the work; each takes a range of the vector, for all masks.
    """
    if executor is None:
        _add(vector, 0, masks, suite)
        return
    parts: int = getattr(executor, "_max_workers", 1)
    lines = -(-vector.size // _LINE_WORDS)
    bounds = [min(vector.size, lines * part // parts * _LINE_WORDS) for part in range(parts + 1)]
    bounds[-1] = vector.size
    jobs = [
        executor.submit(_add, vector[begin:end], begin, masks, suite) for begin, end in pairwise(bounds) if end > begin
    ]
    for job in jobs:
        job.result()


def _add(part: U32, begin: int, masks: Sequence[tuple[bytes, bool]], suite: str) -> None:
    room = bytearray(PIECE_BYTES + 16)
    words: U32 = np.frombuffer(room, "<u4")
    step = PIECE_BYTES // 4
    for key, subtract in masks:
        stream = _stream(key, begin, suite)
        change: Any = np.subtract if subtract else np.add
        for start in range(0, part.size, step):
            piece = part[start : start + step]
            stream.update_into(_ZEROS[: 4 * piece.size], room)
            change(piece, words[: piece.size], out=piece)


def _stream(key: bytes, word: int, suite: str) -> Any:
    """The key stream from this word on, a multiple of 16."""
    if suite == "SA1-C":
        nonce = (word * 4 // 64).to_bytes(8, "little") + bytes(8)
        return Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor()
    counter = (word * 4 // 16).to_bytes(16, "big")
    return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
