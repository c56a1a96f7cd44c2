"""The analytic leak: from the gradient of a first linear layer on one example the example is read by a division."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from umbel.dtypes import Float64


def first_layer_input(weights: NDArray[np.floating], bias: NDArray[np.floating]) -> Float64:
    """x = (∂ℓ/∂W)_c / (∂ℓ/∂b)_c for a layer x·W + b, whatever the loss and the layers behind it.

    Of a sum over several examples it is their mean, weighted by ∂ℓ/∂b_c.

    Args:
        weights: ∂ℓ/∂W, features × units; a common factor does not matter.
        bias: ∂ℓ/∂b, one for each unit; the largest is taken.

    Example:
        >>> x, error = np.array([1.0, 2.0, 3.0]), np.array([0.5, -0.1])
        >>> first_layer_input(np.outer(x, error), error)
        array([1., 2., 3.])

    References:
        L. T. Phong, Y. Aono, T. Hayashi, L. Wang, S. Moriai, "Privacy-Preserving Deep Learning via Additively
        Homomorphic Encryption", IEEE TIFS 13, 2018, https://eprint.iacr.org/2017/715
    """
    unit = int(np.argmax(np.abs(bias)))
    if not bias[unit]:
        return np.zeros(len(weights))
    return weights[:, unit].astype(np.float64) / float(bias[unit])


def psnr_db(image: NDArray[np.floating], guess: NDArray[np.floating]) -> float:
    """10·log₁₀(1 / mean((x - y)²)) of images from 0 to 1, at most 200; what lies beyond in a guess is cut first.

    From 30 dB on people see no difference; a guess of plain grey has about 10.
    """
    error = float(np.square(image - np.nan_to_num(np.clip(guess, 0, 1))).mean())
    return 200.0 if error <= 1e-20 else float(-10 * np.log10(error))
