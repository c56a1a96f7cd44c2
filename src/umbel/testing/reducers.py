"""`check_reducer`: the laws that every reducer keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from umbel.arrays import Arrays
from umbel.message import Group
from umbel.reducers import Accumulator, Reduced, Reducer
from umbel.testing.expect import expect

SHAPES = {"w": ((7, 5), np.float32), "b": ((3,), np.float64), "n": ((), np.int64)}


def _updates(count: int) -> list[dict[str, Group]]:
    rng = np.random.default_rng(11)
    updates: list[dict[str, Group]] = []
    for _ in range(count):
        scale = 10.0 ** rng.uniform(-6, 6)
        values = {name: (scale * rng.standard_normal(shape)).astype(dtype) for name, (shape, dtype) in SHAPES.items()}
        updates.append({"delta": Group(Arrays.of(values), float(rng.integers(1, 100)))})
    return updates


def check_reducer(reducer: Reducer, *, idempotent: bool = True) -> None:
    """Run the laws: order, merging and export make no difference, equal updates are themselves, weight 0 leaves out.

    Args:
        idempotent: whether equal updates have to come back as they are; a reducer that scales them does otherwise.

    Raises:
        AssertionError: names the law that is broken.
    """
    updates = _updates(9)
    schema = {"delta": updates[0]["delta"].arrays.schema}
    model = Arrays.zeros(schema["delta"]).frozen()

    def fold(order: Sequence[int]) -> Accumulator:
        total = reducer.start(schema)
        total.began_from(model)
        for index in order:
            total.fold(updates[index])
        return total

    exact = getattr(reducer, "exact", True)
    whole = fold(range(9)).result()["delta"]
    expect(whole.count == 9, f"9 updates were folded, count is {whole.count}")
    _same(whole, fold([4, 8, 0, 2, 7, 1, 3, 6, 5]).result()["delta"], "another order", exact=exact)
    left, right = fold([8, 1, 5]), fold([0, 2, 3, 4, 6, 7])
    left.merge(right)
    _same(whole, left.result()["delta"], "two sums merged", exact=exact)
    plain, buffers = fold(range(9)).export()
    restored = reducer.restore(schema, plain, buffers)
    restored.began_from(model)
    _same(whole, restored.result()["delta"], "exported and restored", exact=True)
    least = reducer.least_updates
    one = fold([3] * least).result()["delta"].mean()
    for name, value in updates[3]["delta"].arrays.items():
        same = np.allclose(one[name], value, rtol=1e-6, atol=1e-9)
        expect(same or not idempotent, f"{least} equal updates come back changed in {name!r}")
    weightless = fold(range(9))
    weightless.fold({"delta": Group(updates[0]["delta"].arrays, 0.0)})
    same = weightless.result()["delta"].mean().values
    expect(bool(np.array_equal(same, whole.mean().values)), "an update of weight 0 changed the result")
    empty = reducer.start(schema).result()["delta"].mean().values
    expect(not empty.any(), "with no update at all the mean is not zero")
    if reducer.linear:
        expect(whole.weight == sum(u["delta"].weight for u in updates), "the sum of weights is wrong")


def _same(one: Reduced, other: Reduced, what: str, *, exact: bool) -> None:
    a, b = one.mean().values, other.mean().values
    equal = np.array_equal(a, b) if exact else np.allclose(a, b, rtol=1e-9)
    expect(bool(equal) and one.weight == other.weight and one.count == other.count, f"{what} gives another result")
