import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from umbel.data import load_idx
from umbel.errors import ConfigError

CODES = {"|u1": 0x08, "|i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx(array):
    head = bytes([0, 0, CODES[array.dtype.str], array.ndim])
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@settings(derandomize=True, max_examples=40, deadline=None)
@given(array=st.sampled_from(sorted(CODES)).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(max_dims=4, min_side=0))))
def test_what_is_written_is_read(tmp_path_factory, pack, array):
    file = tmp_path_factory.getbasetemp() / "array.idx"
    file.write_bytes(pack(idx(array)))
    read = load_idx(file)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.shape == array.shape
    assert np.array_equal(read, array, equal_nan=array.dtype.kind == "f")


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, pack, length):
    file = tmp_path / "images"
    file.write_bytes(pack(GOOD[:length]))
    with pytest.raises(ConfigError, match=rf"{file}: "):
        load_idx(file)


@pytest.mark.parametrize("length", range(2, len(gzip.compress(GOOD))))
def test_gzip_data_cut_anywhere_is_refused_by_name(tmp_path, length):
    file = tmp_path / "images.gz"
    file.write_bytes(gzip.compress(GOOD)[:length])
    with pytest.raises(ConfigError, match=rf"{file}: "):
        load_idx(file)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD + b"x", "bytes are left over after the 24"),
        (b"PK\x03\x04" + GOOD, "not an IDX file, it starts with 50 4b 03 04"),
        (b"\0\0\x07\x01" + bytes(8), "not an IDX file"),
        (b"\0\0\x08\x00" + bytes(8), "not an IDX file"),
        (b"\0\0\x08\xff" + bytes(2000), "not an IDX file"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(100), "the file cannot hold them"),
        (bytes([0, 0, 14, 8]) + b"\xff" * 32 + bytes(100), "the file cannot hold them"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path, pack, content, sentence):
    file = tmp_path / "images"
    file.write_bytes(pack(content))
    with pytest.raises(ConfigError, match=sentence):
        load_idx(file)


def test_damaged_gzip_is_refused(tmp_path):
    file = tmp_path / "images.gz"
    content = bytearray(gzip.compress(GOOD))
    content[-5] ^= 0xFF  # the checksum
    file.write_bytes(bytes(content))
    with pytest.raises(ConfigError, match="the gzip data is damaged"):
        load_idx(file)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_idx(tmp_path / "none")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_idx(tmp_path)
