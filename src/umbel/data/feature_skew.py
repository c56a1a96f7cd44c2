"""Clients that see the same kind of thing differently: rotated, or with noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from umbel.data.checks import check_seed, finite_number
from umbel.data.partition import Partition
from umbel.data.partitioner import Partitioner
from umbel.data.randomness import generator
from umbel.data.samples import AnyArray, IntArray, Samples
from umbel.errors import ConfigError

EXACT_TURNS = {0: (1.0, 0.0), 90: (0.0, 1.0), 180: (-1.0, 0.0), 270: (0.0, -1.0)}


@final
@dataclass(frozen=True)
class FeatureSkew(Partitioner):
    """The samples of another partitioner, with features turned and made noisy per client.

    Client i of K sees its features turned by ``rotations[i % len(rotations)]`` degrees counter-clockwise, then with
    Gaussian noise of standard deviation ``noise * (i + 1) / K``. `split` says who holds what; `features` gives a client
    its rows as it sees them.

    Args:
        partitioner: decides which client holds which sample.
        rotations: degrees, used in turn. Images need multiples of 90 (exact); points in the plane any angle.
        noise: from 0; standard deviation at the last client, in the unit of the features.
        channels: where the channels of four-dimensional images are: "last" (n, h, w, c) or "first" (n, c, h, w).
        seed: whole number from 0; of the noise only.

    Raises:
        ConfigError: an argument is out of range, or (in `features`) the shape cannot be turned as asked.

    Example:
        >>> import numpy as np
        >>> from umbel.data import IID
        >>> skew = FeatureSkew(IID(2), rotations=(0, 90))
        >>> points = np.array([[1.0, 0.0]] * 4)
        >>> partition = skew.split(points)
        >>> skew.features(partition, 1, points).tolist()
        [[0.0, 1.0], [0.0, 1.0]]

    References:
        A. Ghosh, J. Chung, D. Yin, K. Ramchandran, "An Efficient Framework for Clustered Federated Learning", 2020,
        https://arxiv.org/abs/2006.04088 (rotations). Q. Li, Y. Diao, Q. Chen, B. He, "Federated Learning on Non-IID
        Data Silos: An Experimental Study", 2022, https://arxiv.org/abs/2102.02079 (noise).
    """

    partitioner: Partitioner
    _: KW_ONLY
    rotations: Sequence[float] = (0.0,)
    noise: float = 0.0
    channels: Literal["first", "last"] = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.rotations, (str, int, float)) or len(self.rotations) == 0:
            raise ConfigError(
                f"rotations must be one or more angles in degrees, got {self.rotations!r}; try (0, 90, 180, 270)"
            )
        angles = tuple(finite_number("rotations", angle, hint="try (0, 90, 180, 270)") for angle in self.rotations)
        object.__setattr__(self, "rotations", angles)
        if finite_number("noise", self.noise, hint="try noise=0.1") < 0:
            raise ConfigError(f"noise must be at least 0, got {self.noise!r}; try noise=0.1")
        if self.channels not in ("first", "last"):
            raise ConfigError(f"channels must be 'first' or 'last', got {self.channels!r}; torch images are 'first'")
        check_seed(self.seed)

    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """As the inner partitioner does."""
        return self.partitioner.assign(samples)

    def features(self, partition: Partition, client: int, features: AnyArray, *, stream: str = "train") -> AnyArray:
        """The rows of one client as it sees them; the same arguments give the same bits.

        Args:
            partition: of these features, usually from `split`.
            client: number of the client, from 0.
            features: shape (n, 2) for points; (n, h, w) or four-dimensional for images; any for noise alone.
            stream: names the noise; give another text for another array (e.g. "test"), so that its noise differs.

        Returns:
            The client's rows. The dtype is kept, except that whole numbers become float64 where noise, or an angle that
            is no multiple of 90, needs fractions.

        Raises:
            ConfigError: no such client, features of another length, or a shape that cannot be turned as asked.
        """
        seen = self._turned(
            partition.take(client, np.asarray(features)), self.rotations[client % len(self.rotations)] % 360
        )
        level = self.noise * (client + 1) / len(partition)
        if level == 0:
            return seen
        real = _as_real(seen)
        drawn = generator(self.seed, "feature-noise", client, stream).normal(0.0, level, size=real.shape)
        return (real + drawn).astype(real.dtype)

    def _turned(self, rows: AnyArray, angle: float) -> AnyArray:
        if angle == 0:
            return rows
        if rows.ndim == 2 and rows.shape[1] == 2:
            return _turn_points(rows, angle)
        if rows.ndim not in (3, 4):
            raise ConfigError(
                f"features must be points (n, 2) or images (n, h, w) or (n, h, w, c) to be turned, "
                f"got shape {rows.shape}; reshape them, or use noise only"
            )
        if angle % 90 != 0:
            raise ConfigError(f"rotations must be multiples of 90 for images, got {angle:g}; try (0, 90, 180, 270)")
        axes = (2, 3) if rows.ndim == 4 and self.channels == "first" else (1, 2)
        if angle % 180 != 0 and rows.shape[axes[0]] != rows.shape[axes[1]]:
            raise ConfigError(
                f"rotations of {angle:g} degrees need square images, got {rows.shape[axes[0]]} x {rows.shape[axes[1]]} "
                f"(channels={self.channels!r}); try (0, 180), crop them, or set channels"
            )
        return np.ascontiguousarray(np.rot90(rows, k=int(angle // 90), axes=axes))


def _as_real(rows: AnyArray) -> NDArray[np.floating]:
    return rows if np.issubdtype(rows.dtype, np.floating) else rows.astype(np.float64)  # pyright: ignore[reportReturnType]


def _turn_points(rows: AnyArray, angle: float) -> AnyArray:
    """Exact for multiples of 90 degrees, where cos and sin would leave 6e-17 behind."""
    exact = EXACT_TURNS.get(int(angle)) if angle == int(angle) else None
    cos, sin = exact or (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    real = _as_real(rows)
    turn = np.array([[cos, sin], [-sin, cos]])
    turned = (real.astype(np.float64) @ turn) + 0.0  # + 0.0 turns -0.0 into 0.0
    return turned.astype(rows.dtype if exact else real.dtype)
