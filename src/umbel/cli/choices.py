"""`--set key=a,b` and `--set key=low:high`: what a sweep may choose for one of the app's settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from umbel.cli.settings import divided, value_of
from umbel.errors import ConfigError
from umbel.runtimes.settings import default_of
from umbel.runtimes.sweep import Range

# A value ends at a comma, but not at one in brackets or quotation marks.
VALUE = re.compile(r"""(?:[^,\[\]()"']|\[[^\]]*\]|\([^)]*\)|"[^"]*"|'[^']*')+""")
RANGE = re.compile(r"([^:,]+):([^:,]+?)(:log)?")


def choices(defaults: Mapping[str, Any], changes: Sequence[str]) -> dict[str, list[Any] | Range]:
    """The values or range of each setting in `changes`.

    Raises:
        ConfigError: as `changed`; or it is the seed, no range, or there twice.

    Example:
        >>> choices({"lr": 0.1, "mu": 0.0}, ["lr=0.01,0.1", "mu=0:1"])
        {'lr': [0.01, 0.1], 'mu': Range(low=0.0, high=1.0, log=False)}
    """
    found: dict[str, list[Any] | Range] = {}
    for change in changes:
        key, text = divided(change)
        if key == "seed":
            raise ConfigError(f"--set {change} cannot be: every point gets the same seeds; try --seeds 3")
        if key in found:
            raise ConfigError(f"--set {key}= is there twice; give all its values at once, such as --set {key}=0.1,0.2")
        found[key] = _choice(key, text, default_of(key, defaults))
    return found


def _choice(key: str, text: str, default: Any) -> list[Any] | Range:
    match = RANGE.fullmatch(text) if type(default) in (int, float) else None
    if match is not None:
        low, high = (value_of(key, part.strip(), default) for part in match.groups()[:2])
        return Range(low, high, log=match[3] is not None)
    parts = VALUE.findall(text)
    if ",".join(parts) != text:
        parts = [text]
    return [value_of(key, part.strip(), default) for part in parts]
