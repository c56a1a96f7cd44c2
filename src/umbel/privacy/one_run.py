"""A lower bound on ε from one release: who tells better than ε allows which canaries were in it refutes it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from umbel.dtypes import Float64
from umbel.privacy.calibration import Answering

_SHARES = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""What parts of the canaries are guessed, those with the most and the least scores first."""
_MOST = 64.0


def lower_bound(scores: Float64, answered: Answering, delta: float, *, confidence: float = 0.95) -> float:
    """The largest ε that is refuted: p(ε) = P[Binom(r, e^ε / (1 + e^ε)) ≥ v] + 2·m·δ·α is below 1 - `confidence`.

    Of m canaries, each in the release by a coin of its own, the r most telling are guessed and v guesses are right.
    Several r are tried, and the confidence is divided among them. The bound cannot exceed about log(m), however bad the
    release is.

    Args:
        scores: how much each canary shows in the release.
        answered: whether it was in it.
        delta: δ of the promise.
        confidence: with what probability a promise that is kept is not refuted, above 0 and below 1.

    Raises:
        ModuleNotFoundError: SciPy is not installed; it comes with the extra `privacy`.

    References:
        T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023,
        https://arxiv.org/abs/2305.08846
    """
    order, most = np.argsort(scores), 0.0
    for share in _SHARES:
        guesses = max(1, int(share * len(scores) / 2))
        right = int(answered[order[-guesses:]].sum() + (~answered[order[:guesses]]).sum())
        allowed = (1 - confidence) / len(_SHARES)
        most = max(most, _refuted(len(scores), 2 * guesses, right, delta, allowed))
    return most


def _refuted(canaries: int, guesses: int, right: int, delta: float, allowed: float) -> float:
    low, high = 0.0, _MOST
    if _chance(canaries, guesses, right, low, delta) > allowed:
        return 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if _chance(canaries, guesses, right, middle, delta) <= allowed else (low, middle)
    return low


def _chance(canaries: int, guesses: int, right: int, eps: float, delta: float) -> float:
    """How likely at least so many right guesses are at most, whatever the (ε, δ)-private mechanism."""
    binom: Any = importlib.import_module("scipy.stats").binom
    share = 1 / (1 + np.exp(-eps))
    tail = float(binom.sf(right - 1, guesses, share))
    fewer = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, share))
    alpha = float((fewer / np.arange(1, len(fewer) + 1)).max(initial=0.0))
    return min(1.0, tail + 2 * canaries * delta * alpha)
