"""Arrays as numpy.save writes them: both ways, every dtype of a model, either order and either end first."""

import io

import numpy as np
import pytest

from umbel.errors import WireError
from umbel.runtimes.flower import npy

from .by_hand import loaded, saved

DTYPES = ["<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "<u8", "<u4", "<u2", "u1", "?", ">f4", ">i8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 0, 3), (1, 2, 3, 4)])
def test_both_ways_are_numpys(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    for given in (array, np.asarray(array, order="F")):
        assert b"".join(npy.write(array)) == saved(array)
        np.testing.assert_array_equal(loaded(b"".join(npy.write(given))), array)
        read = npy.read(memoryview(saved(given)))
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype.newbyteorder("=")
        assert read.shape == shape


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_is_read(version):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(4.0), version=version)
    assert npy.read(memoryview(file.getvalue())).tolist() == [0, 1, 2, 3]


def test_nothing_is_copied():
    data = saved(np.arange(1000.0))
    assert np.shares_memory(npy.read(memoryview(data)), np.frombuffer(data, np.uint8))


def test_a_head_that_is_longer_than_the_data_is_refused():
    data = bytearray(saved(np.arange(4.0)))
    data[8:10] = b"\xff\xff"
    with pytest.raises(WireError, match="claims a head of 65535 bytes"):
        npy.read(memoryview(data))
