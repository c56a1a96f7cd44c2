"""A small linear regression at each client, for tests of privacy of single examples."""

from __future__ import annotations

from typing import Any

import numpy as np


def gradient(params: Any, x: Any, y: Any) -> Any:
    error = x @ params["w"] - y
    return float(0.5 * (error**2).mean()), {"w": error @ x / len(y)}


def data(number: int, count: int = 30) -> tuple[Any, Any]:
    rng = np.random.default_rng(number)
    x = rng.normal(size=(count, 5))
    return x, x @ np.arange(5.0) + rng.normal(size=count)
