"""Clipping layer by layer: which arrays are clipped together, and to what."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from umbel.errors import ConfigError

Clip: TypeAlias = "float | Mapping[str, float]"
Layers: TypeAlias = "list[tuple[list[str], float]]"
"""Names of arrays that are clipped together, and their bound."""


def whole_bound(clip: Clip) -> float:
    """C = √(Σ Cₗ²): no update whose layers are within their bounds is longer.

    Example:
        >>> round(whole_bound({"body.*": 3.0, "head.*": 4.0}), 9)
        5.0
    """
    if not isinstance(clip, Mapping):
        return clip
    return math.sqrt(math.fsum(bound**2 for bound in clip.values())) * (1 + 2**-50)


def layers_of(clip: Clip, names: Sequence[str], *, each: bool = False) -> Layers:
    """The layers of a model with arrays of these names.

    Args:
        each: whether one bound is split evenly over the arrays, C / √L each.

    Raises:
        ConfigError: an array is in no layer or in two, or a layer has none.

    Example:
        >>> layers_of({"body.*": 3.0, "head": 4.0}, ["body.w", "body.b", "head"])
        [(['body.w', 'body.b'], 3.0), (['head'], 4.0)]
    """
    if not isinstance(clip, Mapping):
        if each:
            return [([name], clip / math.sqrt(len(names)) * (1 - 2**-50)) for name in names]
        return [(list(names), clip)]
    found = [
        ([name for name in names if name == key or fnmatch.fnmatchcase(name, key)], bound)
        for key, bound in clip.items()
    ]
    for key, (there, _) in zip(clip, found, strict=True):
        if not there:
            raise ConfigError(f"clip names {key!r}, which is no trained array; there are {', '.join(names)}")
    for name in names:
        keys = [key for key, (there, _) in zip(clip, found, strict=True) if name in there]
        if len(keys) != 1:
            said = f"both {keys[0]!r} and {keys[1]!r}" if keys else "none of its layers"
            raise ConfigError(f"array {name!r} is in {said} of clip; each array has to be in one, such as {{'*': 1.0}}")
    return found
