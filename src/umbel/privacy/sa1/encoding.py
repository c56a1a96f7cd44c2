"""Fixed point in Z_2^32: how weighted updates become integers whose sum is exact, and back."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ProtocolError
from umbel.message import is_number, require
from umbel.privacy.sa1.fields import joined, parted

U32 = NDArray[np.uint32]
_NUMBERS = struct.Struct("<dddIII")
BLOCK = 2**16
SATURATED_SHARE = 0.001
"""A client whose values were clipped in more than this share of places counts as saturated."""


@final
@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Fixed point: value x of a client with weight w becomes round(clip(x, ±clip)·(w / weight_cap)·scale).

    A vector is: the weight of each group (slot 0 is the first group's), the examples, a saturated bit, for each metric
    metric · examples and the examples if it is reported, then all values.

    Args:
        clip: values beyond ± this are cut; above 0.
        weight_cap: weights and examples beyond this are cut; above 0.
        clients: how many vectors the sum has to have room for.
        groups: how many groups of arrays, each with a weight.
        size: how many values all groups have together.
        metrics: names of the metrics that are summed.
        metric_clip: metrics beyond ± this are cut.

    Example:
        >>> encoding = Encoding(clip=1.0, weight_cap=10.0, clients=2, size=2)
        >>> one = encoding.encode([([np.float32([0.5, -0.25])], 10.0)], examples=10.0)
        >>> two = encoding.encode([([np.float32([0.5, 0.75])], 5.0)], examples=5.0)
        >>> encoding.decode(one + two).values
        array([7.5 , 1.25])
    """

    clip: float
    weight_cap: float
    clients: int
    size: int
    groups: int = 1
    metrics: tuple[str, ...] = ()
    metric_clip: float = 64.0

    def __post_init__(self) -> None:
        for name in ("clip", "weight_cap", "metric_clip"):
            value = getattr(self, name)
            require(is_number(value) and 1e-30 <= value <= 1e30, f"{name} must be from 1e-30 to 1e30, got {value!r}")
        require(1 <= self.clients <= 2**20, f"clients must be from 1 to {2**20}, got {self.clients}")
        require(self.groups >= 1 and 0 <= self.size < 2**32, f"size must be below {2**32}, got {self.size}")

    @property
    def length(self) -> int:
        """Words of a vector."""
        return self.first + self.size

    @property
    def first(self) -> int:
        """Where values begin."""
        return self.groups + 2 + 2 * len(self.metrics)

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        numbers = _NUMBERS.pack(self.clip, self.weight_cap, self.metric_clip, self.clients, self.size, self.groups)
        return joined(numbers, *(name.encode() for name in self.metrics))

    @classmethod
    def read(cls, data: bytes) -> Encoding:
        """The encoding in these bytes; ConfigError, struct.error or UnicodeDecodeError if it is none."""
        numbers, *metrics = parted(data, least=1)
        clip, weight_cap, metric_clip, clients, size, groups = _NUMBERS.unpack(numbers)
        return cls(
            clip=clip,
            weight_cap=weight_cap,
            clients=clients,
            size=size,
            groups=groups,
            metrics=tuple(name.decode() for name in metrics),
            metric_clip=metric_clip,
        )

    def scale(self, most: float) -> float:
        """The power of two by which numbers up to `most` are multiplied so that the sum stays below 2^31."""
        return 2.0 ** math.floor(math.log2((2**31 - 1 - self.clients) / (self.clients * most)))

    def encode(
        self,
        groups: Sequence[tuple[Sequence[NDArray[np.generic]], float]],
        *,
        examples: float = 0.0,
        metrics: Mapping[str, float] | None = None,
    ) -> U32:
        """One client's vector.

        Args:
            groups: (flat arrays, weight) of each group.

        Raises:
            ProtocolError: a value, weight or metric is NaN or infinite, or the sizes are others.
        """
        _check(self, groups, examples)
        head = [_word(min(weight, self.weight_cap), self.scale(self.weight_cap)) for _, weight in groups]
        share = _share(examples, self)
        few = _word(min(examples, self.weight_cap), self.scale(self.weight_cap))
        told: list[int] = []
        for name in self.metrics:
            value = _clipped((metrics or {}).get(name, 0.0), self.metric_clip) * share
            told += [_word(value, self.scale(self.metric_clip)), few if name in (metrics or {}) else 0]
        vector = np.empty(self.length, np.uint32)
        start, cut = self.first, 0
        for arrays, weight in groups:
            for values in arrays:
                cut += _encode(self, values, _share(weight, self), vector[start : start + values.size])
                start += values.size
        heavy = max(examples, *(weight for _, weight in groups)) > self.weight_cap
        saturated = int(heavy or cut > SATURATED_SHARE * self.size)
        vector[: self.first] = np.array([*head, few, saturated, *told], np.int64).astype(np.uint32)
        return vector

    def decode(self, total: U32) -> Decoded:
        """What the sum of vectors says."""
        words = total.view(np.int32)
        weights = [float(word) / self.scale(self.weight_cap) for word in words[: self.groups + 1]]
        told = words[self.groups + 2 : self.first].astype(np.float64)
        totals = (told[::2] / self.scale(self.metric_clip) * self.weight_cap).tolist()
        examples = (told[1::2] / self.scale(self.weight_cap)).tolist()
        return Decoded(
            values=np.multiply(words[self.first :], self.weight_cap / self.scale(self.clip), dtype=np.float64),
            weights=tuple(weights[:-1]),
            examples=weights[-1],
            saturated=int(words[self.groups + 1]),
            metrics=dict(zip(self.metrics, zip(totals, examples, strict=True), strict=True)),
        )


@final
@dataclass(frozen=True)
class Decoded:
    """The sums over all clients: `values` of w·x, `weights` of each group's w, `metrics` of metric · examples and of
    the examples of those that report it.

    `saturated` counts the clients of whose values many were clipped, or whose weight was.
    """

    values: NDArray[np.float64]
    weights: tuple[float, ...]
    examples: float
    saturated: int
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])


def _check(encoding: Encoding, groups: Sequence[tuple[Sequence[NDArray[np.generic]], float]], examples: float) -> None:
    found = sum(values.size for arrays, _ in groups for values in arrays)
    if len(groups) != encoding.groups or found != encoding.size:
        raise ProtocolError(f"the round's header has {encoding.size} values, the update {found}")
    for weight in (*(weight for _, weight in groups), examples):
        if not 0 <= weight < math.inf:
            raise ProtocolError(f"a weight must be finite and at least 0, got {weight!r}")


def _share(weight: float, encoding: Encoding) -> float:
    """The weight as it is encoded, as a share of the cap, so that Σ w·x and Σ w have the very same w."""
    scale = encoding.scale(encoding.weight_cap)
    return _word(min(weight, encoding.weight_cap), scale) / scale / encoding.weight_cap


def _clipped(value: float, most: float) -> float:
    if not math.isfinite(value):
        raise ProtocolError(f"a metric is {value!r}; return finite numbers or leave it out")
    return max(-most, min(most, value))


def _word(value: float, scale: float) -> int:
    return round(value * scale)


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, min(size, start + BLOCK)) for start in range(0, size, BLOCK))


def _encode(encoding: Encoding, values: NDArray[np.generic], share: float, out: U32) -> int:
    """Write the words of one group; returns how many values were clipped."""
    clip, factor, cut = encoding.clip, encoding.scale(encoding.clip) * share, 0
    for block in _blocks(values.size):
        part = values[block].astype(np.float64)
        most = float(np.abs(part).max())
        if not math.isfinite(most):
            raise ProtocolError(
                "an update holds NaN or an infinite value; lower the learning rate or clip the gradient"
            )
        if most > clip:
            cut += int(np.count_nonzero(np.abs(part) > clip))
            np.clip(part, -clip, clip, out=part)
        part *= factor
        np.rint(part, out=part)
        out[block].view(np.int32)[...] = part
    return cut
