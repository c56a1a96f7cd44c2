import gzip
import struct

import numpy as np
import pytest

from umbel.data import FASHION_CLASSES, fashion_mnist
from umbel.data.fashion import DEBIAN_FOLDER
from umbel.errors import ConfigError


def images(n, side=28):
    return bytes([0, 0, 8, 3]) + struct.pack(">3I", n, side, side) + bytes(i % 251 for i in range(n * side * side))


def labels(n):
    return bytes([0, 0, 8, 1]) + struct.pack(">I", n) + bytes(i % 10 for i in range(n))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images(20)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels(20)))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images(5))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels(5))
    return tmp_path


def test_a_folder_of_packed_and_plain_files_is_read(folder):
    train_images, train_labels, test_images, test_labels = fashion_mnist(str(folder))
    assert (train_images.shape, train_images.dtype) == ((20, 28, 28), np.uint8)
    assert train_labels.tolist() == [i % 10 for i in range(20)]
    assert (test_images.shape, test_labels.shape) == ((5, 28, 28), (5,))


def test_a_missing_file_names_both_ways_to_get_it(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        ConfigError,
        match=r"has no t10k-labels-idx1-ubyte .*apt install dataset-fashion-mnist, or fashion_mnist\(folder\)",
    ):
        fashion_mnist(folder)


def test_labels_of_another_number_than_images_are_refused(folder):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(labels(4))
    with pytest.raises(ConfigError, match=r"t10k images must be bytes of shape \(n, h, w\) with n labels"):
        fashion_mnist(folder)


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_debian_package_holds_seventy_thousand_balanced_pictures():
    data = fashion_mnist()
    assert data.train_images.shape == (60_000, 28, 28)
    assert np.bincount(data.train_labels).tolist() == [6000] * len(FASHION_CLASSES)
    assert np.bincount(data.test_labels).tolist() == [1000] * len(FASHION_CLASSES)
    # the mean of the training pixels as commonly published, e.g. for torchvision's Normalize: 0.2860
    assert data.train_images.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
