"""Chances that depend on (key, client) alone, and chances in a row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from umbel.randomness import generator

BATCH = 1024


def chances_by_name(key: int) -> Callable[[str], float]:
    """For each client a number from the open interval (0, 1) that depends on (key, client) alone."""
    keyed = hashlib.blake2b(key=key.to_bytes(16, "little"), digest_size=8)

    def chance_of(client: str) -> float:
        own = keyed.copy()
        own.update(client.encode())
        return ((int.from_bytes(own.digest(), "little") >> 12) + 0.5) / 2**52

    return chance_of


def chances_in_a_row(key: int) -> Iterator[float]:
    """Numbers from [0, 1) without end."""
    rng = generator(key)
    while True:
        yield from rng.random(BATCH).tolist()
