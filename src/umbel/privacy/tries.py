"""What the tries of a run's secure rounds are called, so that those of two servers that led it are told apart."""

from __future__ import annotations

TRIES = 1024
"""How many tries of one round a server may make."""


def offered(leadership: int, attempt: int) -> int:
    """The attempt that a secure sum names: no other server that leads the run ever names it.

    Args:
        leadership: how many servers have led the run, this one included; 0 where there is none to be killed.
        attempt: which try of the round it is for this one, below `TRIES`.
    """
    return leadership * TRIES + attempt


def leadership_of(attempt: int) -> int:
    """How many servers had led the run when a sum named this attempt."""
    return attempt // TRIES


def order_of(round: int, attempt: int) -> tuple[int, int, int]:
    """What grows from one sum of a run to the next, also when a server goes back to an older checkpoint.

    Example:
        >>> order_of(6, offered(2, 0)) > order_of(9, offered(1, 3))
        True
    """
    return leadership_of(attempt), round, attempt
