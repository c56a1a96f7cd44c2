"""Updates on disk: the same bits as in memory, nothing readable, and what cannot be spooled is refused beforehand."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cryptography")

from tests.deployed.conftest import Federation

import umbel as fl
from umbel.arrays import Arrays
from umbel.errors import ConfigError, NotSupported, ProtocolError, StoreFull, UpdateRefused
from umbel.message import Group, Update
from umbel.runtimes.mail import Answer, read_answer, write_answer
from umbel.runtimes.server.memory import Memory, memory_for
from umbel.runtimes.server.spool import Sheet, Spooled, read_sheet, validate_sheet

MARKER = 1234.56789e3


class Client(fl.NumPyClient):
    """Moves its model by what its name says; the marker is in every update."""

    def __init__(self, context):
        self.own = float(context.partition_id)

    def fit(self, parameters, config):
        rng = np.random.default_rng(int(self.own))
        moved = [p + rng.standard_normal(p.shape).astype(p.dtype) for p in parameters]
        moved[0].reshape(-1)[:100] = parameters[0].reshape(-1)[:100] + np.float32(MARKER)
        return moved, int(self.own) + 1, {}

    def evaluate(self, parameters, config):
        return float(np.mean(parameters[0])), 1, {}


def model():
    rng = np.random.default_rng(5)
    return [
        rng.standard_normal(s).astype(d) for s, d in (((300, 400), "f4"), ((), "f8"), ((70_000,), "f4"), ((9,), "f8"))
    ]


def played(tmp_path, strategy, name, **more):
    return Federation().run(
        ["0", "1", "2"],
        Client,
        strategy=strategy,
        config=fl.ServerConfig(num_rounds=2, min_available_clients=3, seed=1),
        initial_parameters=model(),
        store=tmp_path / f"{name}.db",
        **more,
    )


@pytest.mark.parametrize(
    "strategy",
    [
        fl.FedAvg(),
        fl.FedAvg(server=fl.adam()),
        fl.FedAvg(reducer=fl.Mean(exact=False)),
        fl.FedAvg(reducer=fl.Median()),
        fl.FedAvg(reducer=fl.TrimmedMean(f=1)),
    ],
    ids=["mean", "adam", "plain", "median", "trimmed"],
)
def test_a_spooled_run_has_the_bits_of_one_in_memory(strategy, tmp_path):
    here, there = played(tmp_path, strategy, "memory"), played(tmp_path, strategy, "disk", spool=True)
    assert [r.failures for r in there.rounds] == [[], []] or not any(r.failures for r in there.rounds)
    if getattr(strategy.reducer, "exact", True):
        assert all(np.array_equal(here.parameters[name], there.parameters[name]) for name in here.parameters)
    else:
        assert all(np.allclose(here.parameters[name], there.parameters[name]) for name in here.parameters)
    assert [r.loss for r in here.rounds] == pytest.approx([r.loss for r in there.rounds])


def test_a_round_that_needs_more_than_the_limit_is_spooled(tmp_path, monkeypatch):
    made = []
    before = Sheet.__init__

    def noted(self, folder, nbytes):
        made.append(nbytes)
        before(self, folder, nbytes)

    monkeypatch.setattr(Sheet, "__init__", noted)
    played(tmp_path, fl.FedAvg(), "much")
    assert not made
    played(tmp_path, fl.FedAvg(), "little", memory_gb=0.001)
    assert len(made) == 6


def answer_of(values, **more):
    arrays = Arrays.of(values)
    update = Update({"delta": Group(arrays, more.pop("weight", 2.0))}, 2.0, 1, {"loss": 0.5})
    return b"".join(write_answer(Answer("r", 1, 0, "fit", "c", update=update))), {"delta": arrays.schema}


def test_a_sheet_is_read_as_its_answer_would_be(tmp_path):
    data, schema = answer_of({"a": np.arange(40_000, dtype=np.float32), "b": np.float64(3)})
    answer, groups = read_sheet(Sheet.of(tmp_path, data))
    whole = read_answer(memoryview(data))
    assert (answer.round, answer.update.metrics, answer.update.examples) == (1, {"loss": 0.5}, 2.0)
    assert groups["delta"].arrays.whole() == whole.update.groups["delta"].arrays
    validate_sheet("c", groups, schema)


@pytest.mark.parametrize("start", [0, 1, 15, 16, 17, 4096, 5000])
def test_bytes_are_read_from_any_place(tmp_path, start):
    data = os.urandom(10_000)
    sheet = Sheet(tmp_path, len(data))
    for at in range(0, len(data), 777):
        sheet[at : min(at + 777, len(data))] = memoryview(data)[at : at + 777]
    assert sheet.read(start, 9_999) == data[start:9_999]


def test_what_is_on_the_disk_is_not_what_was_sent(tmp_path):
    data = b"MARKER-IN-AN-UPDATE" * 1000
    sheet = Sheet.of(tmp_path, data)
    assert not list(tmp_path.iterdir())
    written = os.pread(sheet._file, len(data), 0)
    assert len(written) == len(data)
    assert b"MARKER" not in written
    assert os.pread(Sheet.of(tmp_path, data)._file, len(data), 0) != written


def test_any_flipped_byte_is_refused(tmp_path):
    data, _ = answer_of({"a": np.arange(5_000, dtype=np.float32)})
    for at in (0, 5, 20, 100, len(data) // 2, len(data) - 1):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(ProtocolError):
            read_sheet(Sheet.of(tmp_path, bytes(broken)))


def test_nan_and_wrong_shapes_are_refused_with_the_client_and_the_array_named(tmp_path):
    data, schema = answer_of({"a": np.array([1.0, np.nan], np.float32)})
    with pytest.raises(UpdateRefused, match=r"client c.*'a' holds NaN"):
        validate_sheet("c", read_sheet(Sheet.of(tmp_path, data))[1], schema)
    data, _ = answer_of({"a": np.zeros(3, np.float32)})
    with pytest.raises(UpdateRefused, match="has shape"):
        validate_sheet("c", read_sheet(Sheet.of(tmp_path, data))[1], schema)


def test_a_disk_without_room_is_said(tmp_path):
    with pytest.raises(StoreFull, match="no room to spool"):
        Sheet(tmp_path, 2**60)


def test_groups_that_lie_in_another_order_are_refused():
    mixed = Arrays.of({"a": np.zeros(5, np.float16), "b": np.zeros(5, np.float32), "c": np.zeros(5, np.float16)})
    with pytest.raises(NotSupported, match="the group 'control' lie in another order"):
        Spooled(fl.Mean(), {"delta": mixed.schema.delta, "control": mixed.schema.duals})


def test_a_median_that_needs_more_than_there_is_is_refused_unless_it_can_be_spooled():
    class Looking(fl.FedAvg.__mro__[1]):
        def correction(self, ask, start, ctx):
            return None

        def open(self, update, task, own):
            return update.groups

    schema = {"delta": Arrays.of([np.zeros(1_000_000, np.float32)]).schema}
    memory = Memory(limit_bytes=100_000_000)
    assert memory.accumulator(Looking(reducer=fl.Median()), schema, 20) is None
    with pytest.raises(NotSupported, match=r"100 updates needs 0.408 GB of memory with Median, the limit is 0.1 GB"):
        memory.accumulator(Looking(reducer=fl.Median()), schema, 100)
    assert isinstance(memory.accumulator(fl.FedAvg(reducer=fl.Median()), schema, 100), Spooled)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match="memory_gb must be above 0"):
        memory_for(wrong, spool=False)


def test_no_open_file_of_the_server_has_the_marker_in_it(tmp_path):
    """While a round is spooled, whatever this process has open and whatever is on the disk is searched."""
    marker = np.float32(MARKER).tobytes() * 4
    seen = []

    class Watching(fl.FedAvg.__mro__[1]):
        elementwise = True

        def correction(self, ask, start, ctx):
            return None

        def step(self, state, reduced):
            for place in Path("/proc/self/fd").iterdir():
                try:
                    if place.resolve().is_relative_to(tmp_path) or str(tmp_path) in os.readlink(place):
                        seen.append(marker in place.read_bytes())
                except OSError:
                    continue
            return super().step(state, reduced)

    data, schema = answer_of({"a": np.full(50_000, MARKER, np.float32)})
    assert marker in data
    sheet = Sheet.of(tmp_path, data)
    total = Spooled(fl.Mean(), schema)
    total.fold_sheet(read_sheet(sheet)[1])
    strategy = Watching()
    strategy.step(strategy.init(Arrays.of({"a": np.zeros(50_000, np.float32)})), fl_reduction(total))
    assert seen
    assert not any(seen)


def fl_reduction(total):
    from umbel.reducers import Reduction

    return Reduction(total.result(), 1)
