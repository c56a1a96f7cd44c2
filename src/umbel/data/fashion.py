"""Fashion-MNIST from a folder on this machine; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from umbel.data.idx import load_idx
from umbel.errors import ConfigError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class FashionMNIST(NamedTuple):
    """The four arrays: images uint8 of shape (n, 28, 28) in 0 .. 255, labels uint8 of shape (n,) in 0 .. 9."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def fashion_mnist(folder: str | Path | None = None) -> FashionMNIST:
    """Read Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 x 28, ten classes (`FASHION_CLASSES`).

    MNIST, KMNIST and other sets in the same four files can be read from a folder, too.

    Args:
        folder: holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, each with or without .gz; default the folder of the Debian
            package dataset-fashion-mnist.

    Returns:
        A `FashionMNIST`; it unpacks into four arrays.

    Raises:
        ConfigError: a file is missing or damaged, or images and labels differ in number.

    References:
        H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
        Algorithms", 2017, https://arxiv.org/abs/1708.07747 (MIT licence).
    """
    place = DEBIAN_FOLDER if folder is None else Path(folder)
    return FashionMNIST(*_pair(place, "train"), *_pair(place, "t10k"))


def _pair(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = load_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    labels = load_idx(_find(folder, f"{part}-labels-idx1-ubyte"))
    if images.dtype != np.uint8 or images.ndim != 3 or labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise ConfigError(
            f"{folder}: {part} images must be bytes of shape (n, h, w) with n labels, "
            f"got {images.dtype} {images.shape} and {labels.dtype} {labels.shape}; get the four files again"
        )
    return cast("NDArray[np.uint8]", images), cast("NDArray[np.uint8]", labels)


def _find(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise ConfigError(
        f"{folder} has no {name} (nor {name}.gz), which Fashion-MNIST needs; two ways to get it: "
        "apt install dataset-fashion-mnist, or fashion_mnist(folder) with the four IDX files in a folder of yours"
    )
