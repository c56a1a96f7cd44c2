import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data import Shards, Table, load_csv
from umbel.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    def read(content, **options):
        file = tmp_path / "file.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_csv(file, **options)

    return read


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "-2", "+3"], "i", [1, -2, 3]),
        (["1", "", "3"], "f", [1.0, math.nan, 3.0]),
        (["1", "2.5", "1e3"], "f", [1.0, 2.5, 1000.0]),
        ([".5", "5.", "-0.5E-1"], "f", [0.5, 5.0, -0.05]),
        (["?", "NA", "nan"], "f", [math.nan] * 3),
        (["TRUE", "false", "True"], "b", [True, False, True]),
        (["TRUE", "", "false"], "f", [1.0, math.nan, 0.0]),
        (["a", "", "c"], "U", ["a", "", "c"]),
        (["1", "x", "2"], "U", ["1", "x", "2"]),
        (["007", "1", "2"], "U", ["007", "1", "2"]),
        (["1_000", "2", "3"], "U", ["1_000", "2", "3"]),
        (["9223372036854775807", "0", "1"], "i", [2**63 - 1, 0, 1]),
        (["9223372036854775808", "0", "1"], "f", [2.0**63, 0.0, 1.0]),
        (["true", "1", "0"], "U", ["true", "1", "0"]),
        (["١", "٢", "٣"], "U", ["١", "٢", "٣"]),
        (["0x10", "inf", "1"], "U", ["0x10", "inf", "1"]),
    ],
)
def test_the_type_of_a_column_follows_from_all_its_values(read, values, kind, expected):
    column = read("x,y\n" + "".join(f"{value},k\n" for value in values))["x"]
    assert column.dtype.kind == kind
    if kind == "f":
        assert np.array_equal(column, np.array(expected), equal_nan=True)
    else:
        assert column.tolist() == expected


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1))
def test_floats_come_back_to_the_bit(tmp_path_factory, values):
    file = tmp_path_factory.getbasetemp() / "floats.csv"
    file.write_text("x,y\n" + "".join(f"{value!r},0.5\n" for value in values))
    assert np.array_equal(load_csv(file)["x"].astype(float), np.array(values), equal_nan=True)


def test_quotes_byte_order_mark_blank_lines_and_windows_ends_are_read(read):
    table = read(b'\xef\xbb\xbfname, n\r\n"Doe, J.",1\r\n\r\n"say ""a""",2\r\n')
    assert list(table) == ["name", "n"]
    assert table["name"].tolist() == ["Doe, J.", 'say "a"']


def test_options_are_honoured(read):
    table = read("a;b\n1;-\n2;3\n", delimiter=";", missing=("-",), text=("a",), target="b")
    assert table["a"].tolist() == ["1", "2"]
    assert np.array_equal(table.labels, [math.nan, 3.0], equal_nan=True)


def test_a_file_without_rows_has_columns(read):
    table = read("a,b\n")
    assert (list(table), table.num_rows, table.matrix().shape) == (["a", "b"], 0, (0, 2))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "empty; the first line must name the columns"),
        ("a,b\n1\n", r"line 2: 1 values for 2 columns"),
        ("a,b\n1,2\n1,2,3\n", r"line 3: 3 values for 2 columns"),
        ("a,a\n1,2\n", "the first line has 'a' twice"),
        ("a,\n1,2\n", "the first line has a column without name"),
        (b"a,b\n\xff\xfe,1\n", "not UTF-8 text"),
        ('a,b\n"1,2\n', "not readable as CSV"),
        ('a,b\n"1"x,2\n', "not readable as CSV"),
        ("a,b\n" + "x" * 200_000 + ",2\n", "not readable as CSV"),
    ],
)
def test_damaged_files_are_refused_by_name(read, tmp_path, content, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        read(content)
    assert str(tmp_path / "file.csv") in str(caught.value)


@pytest.mark.parametrize("options", [{"target": "c"}, {"text": ("c",)}])
def test_unknown_columns_are_refused(read, options):
    with pytest.raises(ConfigError, match=r"column 'c' is not in .*, which has 'a', 'b'"):
        read("a,b\n1,2\n", **options)


def test_a_missing_file_and_a_long_delimiter_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none.csv: cannot be read: No such file"):
        load_csv(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="delimiter must be one character, got ', '"):
        load_csv(tmp_path / "none.csv", delimiter=", ")


def test_a_table_is_partitioned_as_it_is(read):
    table = read("x,y\n1,a\n2,b\n3,a\n4,b\n", target="y")
    partition = Shards(2, shards_per_client=1).split(table, labels="y")
    assert sorted(partition.take(i, table)["x"].tolist() for i in range(2)) == [[1, 3], [2, 4]]


def test_matrix_holds_numbers_and_refuses_text(read):
    table = read("x,name,ok,y\n1,a,true,0\n,b,false,1\n", target="y")
    assert table.feature_names == ("x", "ok")
    assert np.array_equal(table.matrix(), [[1, 1], [math.nan, 0]], equal_nan=True)
    assert table.matrix(["y"]).tolist() == [[0], [1]]
    with pytest.raises(ConfigError, match="column 'name' holds no numbers"):
        table.matrix(["name"])
    with pytest.raises(ConfigError, match="column 'z' is not in the table"):
        table.matrix(["z"])
    assert "name" in table
    assert "z" not in table


def test_a_table_must_be_rectangular_and_its_target_a_column():
    with pytest.raises(ConfigError, match="columns must be 1-D arrays of one length"):
        Table({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ConfigError, match="column 'c' is not in the table"):
        Table({"a": np.zeros(2)}, target="c")
    with pytest.raises(ConfigError, match="the table has no target"):
        _ = Table({"a": np.zeros(2)}).labels


@pytest.mark.parametrize("huge", ["9" * 5000, "1e999", "-1e999"])
def test_numbers_beyond_float64_stay_text_rather_than_become_infinite(read, huge):
    assert read(f"a,b\n{huge},1\n")["a"].tolist() == [huge]
