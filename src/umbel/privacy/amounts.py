"""Numbers of a plan that have to be above 0, and how wrong ones are told."""

from __future__ import annotations

from typing import Any

from umbel.message import is_number, require

LEAST, MOST = 1e-30, 1e30


def check_positive(name: str, value: Any, try_this: float) -> None:
    """Refuse what is no number from `LEAST` to `MOST`."""
    fine = is_number(value) and LEAST <= value <= MOST
    require(fine, f"{name} must be a number from {LEAST:g} to {MOST:g}, got {short(value)}; try {try_this}")


def short(value: object) -> str:
    """A value as text, of few characters."""
    try:
        return repr(value)[:40]
    except ValueError:  # whole numbers of thousands of digits have no decimal text
        return "a huge number"
