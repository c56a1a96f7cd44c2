"""A model is one buffer with a schema: layout, round trips, arithmetic, names."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from umbel.arrays import Arrays, Vector, difference, matches, moved
from umbel.dtypes import DTYPES, bfloat16, narrow, widen
from umbel.errors import ArraysError
from umbel.schema import Schema

KINDS = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int8, np.uint8, np.uint64, np.bool_]
some_arrays = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda n: n != "__metadata__"),
    st.sampled_from(KINDS).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))),
    min_size=1,
    max_size=6,
)


@given(some_arrays)
def test_arrays_come_back_from_their_buffer_bit_by_bit(values):
    arrays = Arrays.of(values)
    again = Arrays.from_buffer(arrays.buffer.tobytes())
    assert list(again) == list(values)
    for name, value in values.items():
        assert again[name].dtype == value.dtype
        assert again[name].tobytes() == value.tobytes()
        assert again[name].shape == value.shape


@given(some_arrays)
def test_the_buffer_is_a_safetensors_file_with_aligned_data_and_no_holes(values):
    buffer = Arrays.of(values).buffer.tobytes()
    length = int.from_bytes(buffer[:8], "little")
    table = json.loads(buffer[8 : 8 + length])
    assert (8 + length) % 64 == 0
    spans = sorted(tuple(entry["data_offsets"]) for entry in table.values())
    assert spans[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    assert spans[-1][1] == len(buffer) - 8 - length
    for name, entry in table.items():
        assert entry["data_offsets"][0] % values[name].dtype.itemsize == 0


def test_the_safetensors_library_reads_our_file_and_we_read_its(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    values = {"b": np.arange(3, dtype=np.uint8), "w": np.random.default_rng(0).standard_normal((4, 5)).astype("f4")}
    Arrays.of(values, roles={"b": "averaged"}).save(str(tmp_path / "ours.safetensors"))
    theirs = safetensors.load_file(tmp_path / "ours.safetensors")
    assert {n: a.tobytes() for n, a in theirs.items()} == {n: a.tobytes() for n, a in values.items()}
    safetensors.save_file(values, tmp_path / "theirs.safetensors")
    ours = Arrays.load(str(tmp_path / "theirs.safetensors"))
    assert all(np.array_equal(ours[name], value) for name, value in values.items())
    assert Arrays.load(str(tmp_path / "ours.safetensors")).schema.by_name["b"].role == "averaged"


def test_a_list_gets_the_names_0_1_and_views_are_read_only():
    arrays = Arrays.of([np.zeros(2), np.ones(3)])
    assert list(arrays) == ["0", "1"]
    with pytest.raises(ValueError, match="read-only"):
        arrays["0"][0] = 1
    copy = arrays.copy()
    copy["0"][0] = 1
    assert arrays["0"][0] == 0


def test_views_share_memory_with_the_buffer_they_came_from():
    buffer = bytearray(Arrays.of([np.zeros(4, np.float32)]).buffer.tobytes())
    arrays = Arrays.from_buffer(buffer)
    buffer[-4:] = np.float32(7).tobytes()
    assert arrays["0"][3] == 7


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        (8).to_bytes(8, "little") + b"not json",
        (2).to_bytes(8, "little") + b"[]",
        (40).to_bytes(8, "little") + b'{"w":{"dtype":"F99","shape":[1]}}'.ljust(40),
        (64).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'.ljust(64),
        (64).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'.ljust(64) + bytes(4),
        (64).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[9999999],"data_offsets":[0,39999996]}}'.ljust(64),
    ],
)
def test_bytes_that_are_no_buffer_are_refused(bad):
    with pytest.raises(ArraysError):
        Arrays.from_buffer(bad)


def test_a_header_that_claims_a_huge_array_is_refused_before_memory_is_taken():
    text = b'{"w":{"dtype":"F32","shape":[28147497671065],"data_offsets":[0,112589990684260]}}'
    with pytest.raises(ArraysError):
        Arrays.from_buffer(len(text).to_bytes(8, "little") + text)


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([1j]), np.array([object()]), [[1], [1, 2]]])
def test_what_cannot_be_a_model_is_refused_by_name(value):
    with pytest.raises((ArraysError, ValueError)) as caught:
        Arrays.of({"w": value})
    assert "'w'" in str(caught.value) or "inhomogeneous" in str(caught.value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_to_bfloat16_is_to_nearest_even(value):
    # The reference: among the two bfloat16 neighbours of the float64 the nearer one, the even one in a tie.
    got = widen(narrow(np.array([value]), "BF16"), "BF16")[0]
    bits = np.arange(0x7F80, dtype=np.uint32) << 16
    grid = bits.view(np.float32).astype(np.float64)
    target = abs(value)
    index = int(np.searchsorted(grid, target))
    low, high = grid[max(index - 1, 0)], grid[min(index, len(grid) - 1)]
    if target > grid[-1]:
        limit = grid[-1] + (grid[-1] - grid[-2]) / 2
        expected = np.inf if target >= limit else grid[-1]
    elif target - low == high - target:
        expected = low if (max(index - 1, 0)) % 2 == 0 else high
    else:
        expected = low if target - low < high - target else high
    assert abs(got) == expected


def test_torch_rounds_to_bfloat16_as_we_do():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal(10_000) * 10.0 ** np.random.default_rng(1).uniform(
        -30, 30, 10_000
    )
    singles = values.astype(np.float32)
    ours = narrow(singles.astype(np.float64), "BF16").view("u2")
    theirs = torch.from_numpy(singles).bfloat16().view(torch.int16).numpy().view("u2")
    assert np.array_equal(ours, theirs)


def test_an_ml_dtypes_array_is_understood():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    arrays = Arrays.of({"w": np.array([1.5, -2], ml_dtypes.bfloat16)})
    assert arrays.schema.by_name["w"].dtype == "BF16"
    assert widen(arrays["w"], "BF16").tolist() == [1.5, -2]


@pytest.mark.parametrize("code", list(DTYPES))
def test_every_dtype_survives_a_delta_and_its_return(code):
    rng = np.random.default_rng(1)
    start = Arrays.of({"x": narrow(rng.uniform(0, 100, 20), code), "s": narrow(np.array(3.0), code)})
    new = {name: narrow(rng.uniform(0, 100, value.shape), code) for name, value in start.items()}
    change = difference(new, start)
    back = moved(start, Vector.of(change))
    assert back.schema == start.schema
    for name in new:
        near = widen(new[name], code)
        assert np.allclose(
            widen(back[name], code), near, rtol=2**-7 if code == "BF16" else 2e-3 if code == "F16" else 1e-6
        )


def test_integers_stay_integers_and_are_clipped_to_their_range():
    start = Arrays.of({"n": np.array([250, 1], np.uint8)})
    assert moved(start, Vector(start.schema.delta, np.array([10.0, -3.0])))["n"].tolist() == [255, 0]
    big = Arrays.of({"n": np.array([2**62], np.int64)})
    assert moved(big, Vector(big.schema.delta, np.array([2.0**63])))["n"].tolist() == [2**63 - 1]


def test_frozen_and_private_arrays_have_no_delta():
    arrays = Arrays.of(
        {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2), "d": np.zeros(2)},
        roles={"b": "averaged", "c": "frozen", "d": "private"},
    )
    assert list(arrays.schema.delta.by_name) == ["a", "b"]
    assert list(arrays.schema.trained.by_name) == ["a"]


def test_roles_travel_in_the_header_and_unknown_ones_are_refused():
    arrays = Arrays.of({"a": np.zeros(2)}, roles={"a": "averaged"})
    assert Arrays.from_buffer(arrays.buffer).schema.by_name["a"].role == "averaged"
    with pytest.raises(ArraysError):
        Arrays.from_buffer(arrays.buffer.tobytes().replace(b"averaged", b"tempered"))


def test_two_arrays_of_one_name_are_refused():
    spec = Arrays.of({"a": np.zeros(2)}).schema.specs[0]
    with pytest.raises(ArraysError, match="unique"):
        Schema([spec, spec])


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["backbone.*"], {"backbone.w", "backbone.bn.w"}),
        (["*", "!*bn*"], {"backbone.w", "head.b"}),
        (["!head.*"], {"backbone.w", "backbone.bn.w"}),
        (["head.b"], {"head.b"}),
    ],
)
def test_patterns_choose_names(patterns, chosen):
    names = ["backbone.w", "backbone.bn.w", "head.b"]
    assert {name for name in names if matches(name, patterns)} == chosen


def test_bfloat16_is_marked_and_survives_the_buffer():
    arrays = Arrays.of({"w": np.array([0x3F80, 0xC000], bfloat16)})
    assert arrays.schema.by_name["w"].dtype == "BF16"
    assert Arrays.from_buffer(arrays.buffer).float64("w").tolist() == [1.0, -2.0]


def test_the_norm_is_that_of_all_elements():
    assert Arrays.of([np.array([3.0]), np.array(4, np.float32)]).norm() == 5.0
