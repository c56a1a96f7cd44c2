"""Numbers that depend on (seed, purpose, client, …) alone: nothing is drawn in an order, nothing is kept."""

from __future__ import annotations

from umbel.randomness import derive


def uniform(seed: int, *parts: object) -> float:
    """A number from the open interval (0, 1); equal arguments give equal numbers, on any machine.

    Example:
        >>> 0.0 < uniform(1, "speed", "7") == uniform(1, "speed", "7") < 1.0
        True
    """
    return ((derive(seed, *parts) & (2**52 - 1)) + 0.5) / 2**52
