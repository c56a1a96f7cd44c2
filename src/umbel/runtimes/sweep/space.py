"""What a sweep chooses from: lists of values, and ranges of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias, cast, final

import numpy as np

from umbel.errors import ConfigError
from umbel.message import require
from umbel.runtimes.settings import why_not_plain

Point: TypeAlias = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included; whole numbers if both are whole.

    Args:
        low, high: the ends, finite, `low` less than `high`.
        log: draw evenly in the logarithm; `low` must be above 0.

    Raises:
        ConfigError: the ends are not such numbers.

    Example:
        >>> Range(1e-4, 1e-1, log=True)
        Range(low=0.0001, high=0.1, log=True)
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            plain = isinstance(value, (int, float)) and not isinstance(value, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
            why = why_not_plain(value) if plain else "must be a number"
            require(why is None, f"{name} of a Range {why}, got {value!r}; try Range(0.01, 0.1)")
        require(isinstance(self.log, bool), f"log of a Range must be True or False, got {self.log!r}")  # pyright: ignore[reportUnnecessaryIsInstance]
        require(self.low < self.high, f"low of a Range must be less than high, got {self.low!r} and {self.high!r}")
        require(not self.log or self.low > 0, f"low of a Range with log=True must be above 0, got {self.low!r}")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, rng: np.random.Generator) -> int | float:
        """One number of it."""
        if self.whole and not self.log:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        share = rng.random()
        value = low * (1 - share) + high * share
        return self.rounded(math.exp(value) if self.log else value)

    def rounded(self, value: float) -> int | float:
        """A number of the range next to `value` that is short to write: a ten-thousandth of the range apart, or (in the
        logarithm) of itself.
        """
        if not self.whole:
            span = self.high - self.low
            scale = min(span, value) if self.log else span
            value = round(value, 4 - math.floor(math.log10(scale)))
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.whole else float(inside)


Space: TypeAlias = Mapping[str, Sequence[Any] | Range]


def checked(space: Space) -> dict[str, tuple[Any, ...] | Range]:
    """The space, every list as a tuple of plain values.

    Raises:
        ConfigError: a name or a list is none, or a value is not plain or there twice.
    """
    if not isinstance(space, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(
            f'space must map names to lists of values, got a {type(space).__name__}; try {{"lr": [0.01, 0.1]}}'
        )
    return {
        _name(name): values if isinstance(values, Range) else _values(name, values) for name, values in space.items()
    }


def _name(name: object) -> str:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ConfigError(f"a setting's name must be a printable text, got {name!r}; try lr")
    return name


def _values(name: str, values: object) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)):
        raise ConfigError(f"{name} must be a list of values or a Range, got {values!r}; try {name}=[{values!r}]")
    plain = values.tolist() if isinstance(values, np.ndarray) else list(cast("Sequence[Any]", values))
    if not plain:
        raise ConfigError(f"{name} has no value; give at least one, such as {name}=[0.1]")
    for value in plain:
        items: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        for why in filter(None, map(why_not_plain, items)):
            raise ConfigError(f"{name} {why}, got {value!r}; name it by a text and let run() look it up")
    # 1, 1.0 and True are three settings: a program may ask for the type.
    texts = [json.dumps(value) for value in plain]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise ConfigError(f"{name} has the value {twice} twice; name each once, and repeat runs with seeds=…")
    return tuple(plain)


def text_of(point: Point) -> str:
    """A point as people write it; equal texts are equal points.

    Example:
        >>> text_of({"lr": 0.1, "method": "fedavg"})
        'lr=0.1 method=fedavg'
    """
    return " ".join(f"{name}={_written(value)}" for name, value in point.items())


def _written(value: object) -> str:
    """Text stands without quotation marks where it cannot be taken for something else."""
    if isinstance(value, str) and value.isidentifier() and value.isascii() and value not in ("true", "false"):
        return value
    return json.dumps(value)
