"""Gaussian noise from the operating system's generator, on a grid."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from umbel.dtypes import Float64
from umbel.errors import ConfigError

Draw: TypeAlias = Callable[[int], Float64]
"""So many numbers from the standard normal distribution, never the same twice."""

_BLOCK = 2**16


def keystream() -> Callable[[int], NDArray[np.uint64]]:
    """Random words of 64 bits from AES-256-CTR under a key that the operating system draws for this call.

    Raises:
        ConfigError: the package `cryptography` is not installed.
    """
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        raise ConfigError("privacy noise needs cryptography; install it with: pip install 'umbel[privacy]'") from None
    stream = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    return lambda count: np.frombuffer(stream.update(bytes(8 * count)), "<u8")


def fresh(count: int) -> Float64:
    """`count` standard normal numbers from AES-256-CTR under a key that the operating system draws for this call.

    Two uniform numbers of 53 bits make two normal ones (Box-Muller), none larger than 8.6.

    Raises:
        ConfigError: the package `cryptography` is not installed.
    """
    words = keystream()
    result = np.empty(count)
    for start in range(0, count, _BLOCK):
        pairs = (min(_BLOCK, count - start) + 1) // 2
        bits = words(2 * pairs) >> np.uint64(11)
        uniform = (bits.astype(np.float64) + 0.5) * 2.0**-53
        radius, angle = np.sqrt(-2 * np.log(uniform[:pairs])), 2 * math.pi * uniform[pairs:]
        both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        result[start : start + _BLOCK] = both[: min(_BLOCK, count - start)]
    return result


def on_grid(draw: Draw, count: int, deviation: float, grid: float) -> Float64:
    """Normal noise of this standard deviation, each number rounded to a multiple of `grid`.

    Added to numbers that are multiples of `grid`, this is the rounding of their sum with noise that was not rounded: it
    tells nothing more, and the low bits of a float tell nothing of the number that noise was added to.

    References:
        I. Mironov, "On Significance of the Least Significant Bits for Differential Privacy", CCS 2012.
    """
    noise = draw(count)
    noise *= deviation / grid
    np.rint(noise, out=noise)
    noise *= grid
    return noise
