"""Symmetric Dirichlet draws that hold for any alpha above 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dirichlet(rng: np.random.Generator, alpha: float, length: int) -> NDArray[np.float64]:
    """One draw of Dirichlet(alpha, …, alpha).

    NumPy's own draw underflows to 0 / 0 for very small alpha and overflows for very large. A Gamma(alpha) variable is
    Gamma(alpha + 1) * U^(1 / alpha); its logarithm never underflows.

    Example:
        >>> draw = dirichlet(np.random.default_rng(0), 1e-300, 4)
        >>> float(draw.sum()), float(draw.max())
        (1.0, 1.0)
    """
    log_gamma = np.log(rng.gamma(alpha + 1.0, size=length))
    with np.errstate(over="ignore"):  # -inf for all but a few is the right limit; all -inf is mended below
        log_gamma = log_gamma + np.log1p(-rng.random(length)) / alpha
    top = log_gamma.max()
    if not np.isfinite(top):
        weights = np.zeros(length)
        weights[rng.integers(length)] = 1.0
        return weights
    weights = np.exp(log_gamma - top)
    return weights / weights.sum()
