"""What version 0.1.0 wrote is read to the bit, and what is written today is what it wrote, while formats stay the same.

`tests/fixtures/make.py` made the files. They are committed and never made anew.
"""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from umbel.arrays import Arrays
from umbel.errors import WireError
from umbel.runtimes import checkpoint
from umbel.runtimes.memory import read_memory
from umbel.wire import decode, frame

FOLDER = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def make():
    return runpy.run_path(str(FOLDER / "make.py"))


def same(one, other):
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()


def test_a_buffer_with_every_dtype_and_role_is_read(make):
    data = (FOLDER / "buffer-1.safetensors").read_bytes()
    for read in (Arrays.from_buffer(data), Arrays.load(str(FOLDER / "buffer-1.safetensors"))):
        expected = make["buffer"]()
        assert read.schema == expected.schema
        assert [spec.role for spec in read.schema if spec.role != "trained"] == [
            "averaged",
            "private",
            "averaged",
            "frozen",
        ]
        for name in expected:
            same(read[name], expected[name])
    assert Arrays.from_buffer(data).digest == "6a79756851ef825aed2ac8b11d4be6bb0fa761b479891e255b24c0875393cfec"


def test_a_buffer_is_read_by_safetensors_itself():
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(FOLDER / "buffer-1.safetensors", "np") as file:
        same(file.get_tensor("layer.weight"), np.arange(6, dtype=np.float32).reshape(2, 3) / 4)
        same(file.get_tensor("layer.bias"), np.array([1.5, -2.25, 1e-300]))
        assert json.loads(file.metadata()["umbel.roles"])["codes"] == "frozen"


def test_a_frame_is_read(make):
    read = decode((FOLDER / "frame-1.umbl").read_bytes())
    assert read.kind == "fixture"
    assert read.body == make["BODY"]
    assert [buffer.tobytes() for buffer in read.buffers] == [b"abc", b"", bytes(range(200))]


def test_a_frame_with_one_flipped_bit_is_refused():
    data = bytearray((FOLDER / "frame-1.umbl").read_bytes())
    for place in range(len(data)):
        data[place] ^= 1
        with pytest.raises(WireError):
            decode(bytes(data))
        data[place] ^= 1


def test_a_checkpoint_is_read(make):
    state, coordinator = checkpoint.read((FOLDER / "checkpoint-1.umbl").read_bytes())
    expected = make["state"]()
    assert state.params == expected.params
    assert state.slots == expected.slots
    assert state.scalars == expected.scalars
    assert coordinator == make["COORDINATOR"]


def test_a_client_state_is_read():
    state = read_memory((FOLDER / "client-state-1.umbl").read_bytes())
    assert (state.user["turns"], state.user["note"]) == (3, "x")
    same(state.user["seen"], np.array([1, 2, 3], np.int16))
    same(state.strategy["control"]["w"], np.array([0.5, -0.5], np.float32))
    assert state.private is not None
    same(state.private["head"], np.array([1 / 3]))


@pytest.fixture
def store(tmp_path):
    """A copy: opening a store may write to it."""
    return Path(shutil.copy(FOLDER / "store-1.sqlite", tmp_path / "store.sqlite"))


def test_a_store_with_a_finished_run_is_read(make, store):
    expected = json.loads((FOLDER / "store-1.json").read_text("utf-8"))
    assert expected["run"][3] == "finished"
    assert make["told"](store) == expected


def test_a_run_in_an_older_store_goes_on(make, store):
    expected = json.loads((FOLDER / "store-1.json").read_text("utf-8"))
    history = make["run"](store, 3, expected["run"][0])
    assert [record.round for record in history.rounds] == [1, 2, 3]
    assert [record.loss for record in history.rounds[:2]] == [e["loss"] for e in expected["events"] if "loss" in e][:2]


@pytest.mark.skipif(frame.FORMAT != 1 or checkpoint.FORMAT != 1, reason="the present format is a later one")
def test_what_is_written_today_is_what_was_written(make):
    assert make["frame"]() == (FOLDER / "frame-1.umbl").read_bytes()
    assert make["saved"]() == (FOLDER / "checkpoint-1.umbl").read_bytes()
    assert make["client_state"]() == (FOLDER / "client-state-1.umbl").read_bytes()
    assert make["buffer"]().buffer.tobytes() == (FOLDER / "buffer-1.safetensors").read_bytes()
