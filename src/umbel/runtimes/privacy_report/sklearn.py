"""Handwritten digits that come with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import datasets

from umbel.dtypes import Float64


def digits(count: int) -> list[tuple[Float64, int]]:
    """Pictures of 8 × 8 numbers from 0 to 1, and what each shows: one of each digit in turn."""
    # Its types are not told.
    load: Any = datasets.load_digits  # pyright: ignore[reportUnknownVariableType]
    found = load()
    first = [int(np.flatnonzero(found.target == label)[0]) for label in range(min(count, 10))]
    return [(found.images[place] / 16.0, int(found.target[place])) for place in first]
