import gzip
import io
import re
import struct
import sys
import zipfile

import numpy as np
import pytest

from umbel.data import IID, Table, load, load_npz, load_parquet
from umbel.errors import ConfigError


def saved(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


GOOD = saved(x=np.arange(300).reshape(100, 3), y=np.array(["a", "b"]))


def test_npz_gives_all_arrays_by_name(tmp_path):
    file = tmp_path / "a.npz"
    file.write_bytes(GOOD)
    arrays = load_npz(file)
    assert arrays["x"].tolist() == np.arange(300).reshape(100, 3).tolist()
    assert arrays["y"].tolist() == ["a", "b"]


@pytest.mark.parametrize("length", range(0, len(GOOD), 7))
def test_an_npz_cut_anywhere_is_refused_by_name(tmp_path, length):
    file = tmp_path / "a.npz"
    file.write_bytes(GOOD[:length])
    with pytest.raises(ConfigError, match=rf"{file}: "):
        load_npz(file)


@pytest.mark.parametrize("position", range(0, len(GOOD), 5))
def test_an_npz_with_a_damaged_byte_is_refused_or_reads_the_same(tmp_path, position):
    content = bytearray(GOOD)
    content[position] ^= 0xFF
    file = tmp_path / "a.npz"
    file.write_bytes(bytes(content))
    try:
        arrays = load_npz(file)
    except ConfigError as error:
        assert str(file) in str(error)  # noqa: PT017 - either outcome is right, nothing else is
    else:
        assert sorted(a.size for a in arrays.values()) == [2, 300]


def test_pickled_objects_are_never_loaded(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match="holds Python objects"):
        load_npz(file)


def test_a_zip_of_something_else_is_refused(tmp_path):
    file = tmp_path / "a.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ConfigError, match=r"'readme.txt' is not an array"):
        load_npz(file)


def test_parquet_columns_become_numpy_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "a.parquet"
    columns = {
        "n": pa.array([1, None, 3]),
        "i": pa.array([1, 2, 3]),
        "ok": pa.array([True, None, False]),
        "name": pa.array(["x", None, "z"]),
        "many": pa.array([[1, 2], [], [3]]),
        "kind": pa.array(["u", "v", "u"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), file)
    table = load(file, target="i")
    assert isinstance(table, Table)
    assert np.array_equal(table["n"], [1, np.nan, 3], equal_nan=True)
    assert np.array_equal(table["ok"], [1, np.nan, 0], equal_nan=True)
    assert table["name"].tolist() == ["x", "", "z"]
    assert table["kind"].tolist() == ["u", "v", "u"]
    assert [len(values) for values in table["many"]] == [2, 0, 1]
    assert table.labels.tolist() == [1, 2, 3]
    with pytest.raises(ConfigError, match="column 'q' is not in"):
        load_parquet(file, target="q")
    content = file.read_bytes()
    for damaged in (b"", content[:50], content[:-9] + b"12345PAR1", b"PAR1" + content[4:100]):
        file.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"a.parquet: not a Parquet file, or damaged"):
            load_parquet(file)


def test_the_suffix_chooses_the_reader(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a.TSV").write_text("x\ty\n1\t2\n")
    (tmp_path / "a.npz").write_bytes(GOOD)
    idx = bytes([0, 0, 8, 1]) + struct.pack(">I", 2) + b"\x05\x06"
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx)
    (tmp_path / "labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx))
    assert load(tmp_path / "a.csv", target="y").labels.tolist() == [2]
    assert load(str(tmp_path / "a.TSV"))["y"].tolist() == [2]
    assert sorted(load(tmp_path / "a.npz")) == ["x", "y"]
    assert load(tmp_path / "labels-idx1-ubyte").tolist() == [5, 6]
    assert load(tmp_path / "labels-idx1-ubyte.gz").tolist() == [5, 6]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("a.xlsx", {}, r"unknown suffix '.xlsx'; allowed are .csv"),
        ("a", {}, "unknown suffix ''"),
        ("a.npz", {"target": "y"}, "target='y' needs a table"),
        ("none.npz", {}, "none.npz: no such file"),
        ("none.csv", {}, "none.csv: cannot be read"),
        ("none.parquet", {}, "none.parquet: no such file"),
        ("none.idx", {}, "none.idx: cannot be read"),
    ],
)
def test_what_cannot_be_loaded_is_refused(tmp_path, name, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load(tmp_path / name, **options)


@pytest.mark.parametrize(
    ("library", "call", "extra"),
    [
        ("pyarrow", lambda: load_parquet("a.parquet"), "umbel[parquet]"),
        ("matplotlib", lambda: IID(2).split(4).plot(), "umbel[plot]"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, library, call, extra):
    for name in [name for name in sys.modules if name == library or name.startswith(library + ".")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)  # what Python itself does for a module that must not be imported
    sentence = f"needs {library}, which is not installed; try: pip install '{extra}'"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        call()
