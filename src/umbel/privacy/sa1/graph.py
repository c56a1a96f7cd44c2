"""Who masks with whom: everybody with everybody, or the nearest on a ring whose order nobody can choose beforehand."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

COMPLETE_UP_TO = 60
"""Below about so many clients a sparse graph saves little, and the complete one needs no argument."""


@lru_cache(8)
def neighbours_of(clients: int, count: int, digest: bytes) -> tuple[tuple[int, ...], ...]:
    """Each client's neighbours by index, in ascending order.

    The ring's order is that of SHA-256(digest, index): the digest covers the header of the round before and all signed
    keys, so the order is fixed only when nobody can change keys any more, and everybody finds the same.

    Args:
        count: even, below `clients`; 0 makes everybody everybody's neighbour.
    """
    if count == 0:
        return tuple(tuple(j for j in range(clients) if j != i) for i in range(clients))
    ring = _ring(clients, digest)
    near: list[tuple[int, ...]] = [()] * clients
    steps = [step for step in range(-count // 2, count // 2 + 1) if step]
    for place, client in enumerate(ring):
        near[client] = tuple(sorted(ring[(place + step) % clients] for step in steps))
    return tuple(near)


def near_of(clients: int, count: int, digest: bytes, client: int) -> tuple[int, ...]:
    """One client's neighbours, as in `neighbours_of`: who asks for one need not hold those of all."""
    if count == 0:
        return tuple(j for j in range(clients) if j != client)
    ring = _ring(clients, digest)
    place = ring.index(client)
    return tuple(sorted(ring[(place + step) % clients] for step in range(-count // 2, count // 2 + 1) if step))


@lru_cache(8)
def _ring(clients: int, digest: bytes) -> list[int]:
    return sorted(range(clients), key=lambda i: sha256(b"umbel SA1 ring 1" + digest + i.to_bytes(4, "little")).digest())
