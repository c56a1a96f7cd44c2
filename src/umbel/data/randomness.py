"""Random generators that belong to a purpose, so that one draw never shifts another."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A Philox generator whose key is the SHA-256 of (seed, purpose).

    Args:
        seed: the user's seed, a whole number.
        purpose: texts and numbers that name what is drawn, e.g. ``("feature-noise", 3)``.

    Example:
        >>> bool(generator(0, "a").random() == generator(0, "a").random())
        True
        >>> bool(generator(0, "a").random() == generator(0, "b").random())
        False
    """
    digest = hashlib.sha256(repr((int(seed), *purpose)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
