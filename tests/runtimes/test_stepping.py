"""A step in pieces has the bits of a step in one go, for every strategy that says so."""

import itertools

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.errors import StoreFull
from umbel.message import Group, Task
from umbel.reducers import Reduction
from umbel.runtimes.room import Room
from umbel.runtimes.stepping import settled, stepped
from umbel.schema import Schema

ROLES = {"head": "trained", "count": "averaged", "still": "frozen"}
STRATEGIES = [
    fl.FedAvg(),
    fl.FedAvg(server=fl.momentum(0.5, nesterov=True)),
    fl.FedAvg(server=fl.adam()),
    fl.FedAvg(server=fl.yogi()),
    fl.FedAvg(server=fl.adagrad()),
    fl.FedAvg(reducer=fl.Mean(exact=False)),
    fl.FedAvg(reducer=fl.Median()),
    fl.FedAvg(reducer=fl.TrimmedMean(f=1)),
    fl.FedAvg(reducer=fl.NearestNeighbourMixing(fl.Krum(f=1))),
    fl.FedAvg(reducer=fl.FLTrust(lambda model: {name: value + 1 for name, value in model.items()})),
    fl.Scaffold(reducer=fl.GeometricMedian()),
    fl.FedProx(mu=0.1),
    fl.Scaffold(),
    fl.FedDyn(alpha=0.1),
    fl.FedNova(),
    fl.QFedAvg(q=1.0),
    fl.FedSGD(),
]


def model(rng) -> Arrays:
    values = {
        "body": rng.standard_normal((60, 1000)).astype(np.float32),
        "scale": rng.standard_normal(()).astype(np.float64),
        "half": rng.standard_normal(40_000).astype(np.float16),
        "head": rng.standard_normal(7).astype(np.float32),
        "count": np.int64(3),
        "still": rng.standard_normal(50_000).astype(np.float32),
    }
    return Arrays.of(values, roles=ROLES)


def updates(strategy, state, rng, count=5):
    task = Task(1, state.params, dict(strategy.task(state, 1).extra))
    schema = dict(strategy.schema(task, {}))
    total = strategy.reducer.start(schema)
    for _ in range(count):
        groups = {}
        for name, expected in schema.items():
            arrays = Arrays.empty(expected)
            for spec in expected.specs:
                arrays.views[spec.name][...] = rng.standard_normal(spec.shape).astype(arrays.views[spec.name].dtype) + 1
            groups[name] = Group(arrays.frozen(), float(rng.integers(1, 50)))
        total.fold(groups)
    return total, schema


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: f"{s!r}"[:60])
def test_a_step_in_pieces_has_the_bits_of_one_in_one_go(strategy, tmp_path):
    assert strategy.elementwise
    rng = np.random.default_rng(4)
    room = Room(tmp_path, small_bytes=0)
    whole = pieces = strategy.init(model(rng))
    pieces = settled(pieces, room)
    for _ in range(3):
        total, schema = updates(strategy, whole, rng)
        in_pieces = stepped(strategy, pieces, total, schema, 20, room, piece=16_384)
        whole = strategy.step(whole, Reduction(total.result(), 20))
        pieces = in_pieces
        assert pieces.params == whole.params
        assert pieces.params.digest == whole.params.digest
        assert dict(pieces.slots) == dict(whole.slots)
        assert pieces.scalars == whole.scalars


def test_a_strategy_that_does_not_say_so_steps_in_one_go(tmp_path):
    class Normed(fl.FedAvg.__mro__[1]):
        """Scales the change by the norm of all of it."""

        def correction(self, ask, start, ctx):
            return None

        def step(self, state, reduced):
            mean = reduced["delta"].mean()
            return self.advance(state, mean.scaled(1 / np.linalg.norm(mean.values)))

    strategy, rng = Normed(), np.random.default_rng(4)
    state = strategy.init(model(rng))
    total, schema = updates(strategy, state, rng)
    there = stepped(strategy, state, total, schema, 20, Room(tmp_path, small_bytes=0), piece=16_384)
    assert there.params == strategy.step(state, Reduction(total.result(), 20)).params


def test_pieces_begin_at_multiples_of_blocks_and_hold_everything_once():
    schema = model(np.random.default_rng(1)).schema
    seen = {name: [] for name in schema.by_name}
    for piece in schema.slices(16_384):
        kinds = {(schema.by_name[part.name].dtype, schema.by_name[part.name].role) for part in piece}
        assert len(kinds) == 1
        first = schema.positions[piece[0].name] + piece[0].start
        segment = next(s for s in schema.segments if s.start <= first < s.start + s.size)
        assert (first - segment.start) % 16_384 == 0
        for part in piece:
            seen[part.name].append((part.start, part.stop))
    for name, parts in seen.items():
        assert parts[0][0] == 0
        assert parts[-1][1] == schema.by_name[name].size
        assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))


def test_arrays_without_elements_are_in_no_piece():
    assert list(Schema(Arrays.of({"none": np.zeros((0, 3))}).schema.specs).slices(10)) == []


def test_large_arrays_lie_in_files_that_nobody_can_find(tmp_path):
    room = Room(tmp_path, small_bytes=1000)
    large, small = room.make(Arrays.of([np.zeros(1000)]).schema), room.make(Arrays.of([np.zeros(1)]).schema)
    assert not list(tmp_path.iterdir())
    assert "mmap" in repr(large.buffer.base.obj if hasattr(large.buffer.base, "obj") else large.buffer.base)
    assert small.buffer.base is None


def test_no_room_on_the_disk_is_said_before_anything_is_written(tmp_path):
    class Vast:
        header, header_array, nbytes = b"", np.zeros(0, np.uint8), 2**60

    with pytest.raises(StoreFull, match="no room for"):
        Room(tmp_path).make(Vast())
