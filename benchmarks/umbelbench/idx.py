"""Fashion-MNIST's files, read without umbel, which the peers' environments do not have."""

import gzip
from pathlib import Path

import numpy as np

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist


def there() -> bool:
    return FOLDER.is_dir()


def fashion_mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) and labels (n,) of "train" or "t10k"."""
    images, labels = (_bytes(f"{part}-{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return images[16:].reshape(-1, 28, 28), labels[8:]


def _bytes(name: str) -> np.ndarray:
    with gzip.open(FOLDER / name) as file:
        return np.frombuffer(file.read(), np.uint8)
