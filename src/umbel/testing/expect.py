"""How a kit says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.arrays import Arrays


def expect(condition: bool, sentence: str) -> None:
    """Raise `AssertionError(sentence)` unless `condition` holds."""
    if not condition:
        raise AssertionError(sentence)


def same_bits(one: Mapping[str, Any], other: Mapping[str, Any], what: str) -> None:
    """Expect two sets of arrays to be equal to the bit."""
    left, right = Arrays.of(one), Arrays.of(other)
    expect(left == right, f"{what}: the arrays differ ({left.digest[:12]} and {right.digest[:12]})")
