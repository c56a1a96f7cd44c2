"""Sums are exact in a sense that needs no bound beforehand: any order, any merge tree, the same bits."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.arrays import Arrays
from umbel.errors import ArraysError
from umbel.message import Group
from umbel.reducers import Mean, Median
from umbel.reducers.exact import ExactSum
from umbel.reducers.ladder import GUARD_BITS, LOWEST, STEP_BITS, LadderSum
from umbel.testing import check_reducer

numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e200, max_value=1e200)


@given(st.lists(numbers, max_size=40), st.randoms(use_true_random=False))
def test_scalars_sum_exactly_in_any_order(values, random):
    total, other = ExactSum(), ExactSum()
    for value in values:
        total.add(value)
    shuffled = values[:]
    random.shuffle(shuffled)
    half = len(shuffled) // 2
    for value in shuffled[:half]:
        other.add(value)
    rest = ExactSum()
    for value in shuffled[half:]:
        rest.add(value)
    rest.merge(other)
    assert total.value == rest.value == math.fsum(values)


@given(st.lists(st.lists(numbers, max_size=40), max_size=4))
def test_scalars_added_at_once_sum_exactly_too(parts):
    total = ExactSum()
    for values in parts:
        total.add_many(values)
    assert sum(map(Fraction, total.partials)) == sum(Fraction(value) for values in parts for value in values)
    assert total.value == math.fsum(value for values in parts for value in values)


def test_a_sum_beyond_all_floats_is_infinite_however_it_was_added():
    one, many = ExactSum(), ExactSum([1.0])
    for value in (1.0, 1.7e308, 1.7e308):
        one.add(value)
    many.add_many([1.7e308, 1.7e308])
    assert one.partials[-1] == many.partials[-1] == math.inf


def exact_by_definition(contributions, kept):
    """The sum in rational arithmetic: each contribution rounded (half to even) to the lowest kept grid."""
    largest = max(abs(c) for c in contributions)
    if largest == 0:
        return Fraction(0)
    rung = max(LOWEST, (math.frexp(largest)[1] + GUARD_BITS - 52) // STEP_BITS + 1)
    unit = Fraction(2) ** (STEP_BITS * (rung - kept + 1))
    return sum((round(Fraction(c) / unit) * unit for c in contributions), Fraction(0))


def random_updates(seed, dtype, scales):
    rng = np.random.default_rng(seed)
    count = 12
    exponents = rng.uniform(*scales, count)
    updates = [Arrays.of([(rng.standard_normal(5) * 10.0**e).astype(dtype)]) for e in exponents]
    return updates, 10.0 ** rng.uniform(-3, 7, count)


@pytest.mark.parametrize(("dtype", "kept"), [(np.float32, 2), (np.float64, 3), (np.float16, 2)])
@pytest.mark.parametrize("seed", range(20))
def test_the_sum_equals_rational_arithmetic(dtype, kept, seed):
    scales = (-4, 4) if dtype is np.float16 else (-30, 30)
    updates, weights = random_updates(seed, dtype, scales)
    total = LadderSum(updates[0].schema)
    for update, weight in zip(updates, weights, strict=True):
        total.add(update, weight)
    got = total.value()["0"]
    # The five elements share a block, so the largest contribution of all of them sets the grid.
    terms = [[float(u["0"][i]) * float(w) for u, w in zip(updates, weights, strict=True)] for i in range(5)]
    top = max(abs(t) for row in terms for t in row)
    for element, row in zip(got, terms, strict=True):
        exact = exact_by_definition([*row, top], kept) - exact_by_definition([top], kept)
        # Two rungs are rounded once at the end, three twice: the last bit of those may differ.
        assert element == float(exact) or (kept == 3 and abs(element - float(exact)) <= np.spacing(abs(element)))
        true = sum((Fraction(t) for t in row), Fraction(0))
        grid = len(row) * Fraction(top) * Fraction(2) ** (-33 * (kept - 1))
        assert abs(Fraction(float(element)) - true) <= grid + Fraction(float(np.spacing(abs(element))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16])
@pytest.mark.parametrize("seed", range(15))
def test_any_order_and_any_merge_tree_give_the_same_bits(dtype, seed):
    rng = np.random.default_rng(seed)
    span = 4 if dtype is np.float16 else 30 if seed % 2 else 2
    if dtype is np.int64:
        updates = [Arrays.of([rng.integers(-(10**9), 10**9, 40)]) for _ in range(30)]
    else:
        updates = [
            Arrays.of([(rng.standard_normal(40) * 10.0 ** rng.uniform(-span, span)).astype(dtype)]) for _ in range(30)
        ]
    weights = rng.uniform(0, 1000, 30)

    def run(order, parts):
        sums = [LadderSum(updates[0].schema) for _ in range(parts)]
        for position, i in enumerate(order):
            sums[position % parts].add(updates[i], weights[i])
        while len(sums) > 1:
            sums[0].merge(sums.pop())
        return sums[0].value().values.tobytes()

    reference = run(range(30), 1)
    for parts in (1, 2, 5):
        assert run(rng.permutation(30), parts) == reference


@pytest.mark.parametrize("reducer", [Mean(), Mean(exact=False)], ids=["exact", "plain"])
@pytest.mark.parametrize("seed", range(8))
def test_many_rows_at_once_give_the_bits_of_one_after_the_other(reducer, seed):
    rng = np.random.default_rng(seed)
    shapes = {"a": ((20_000,), np.float32), "b": ((3, 5), np.float32), "c": ((4,), np.int64), "d": ((7,), np.float64)}
    updates, weights = [], []
    for _ in range(9):
        scale = 10.0 ** rng.integers(-20, 20)
        updates.append(Arrays.of({n: (scale * rng.standard_normal(s)).astype(d) for n, (s, d) in shapes.items()}))
        weights.append(float(rng.integers(0, 3)) * 10.0 ** float(rng.integers(-3, 4)))
    schema = updates[0].schema
    one, many = reducer.start({"delta": schema}), reducer.start({"delta": schema})
    for update, weight in zip(updates, weights, strict=True):
        one.fold({"delta": Group(update, weight)})
    rows = np.zeros((len(updates), -(-schema.nbytes // 64) * 64), np.uint8)
    for row, update in zip(rows, updates, strict=True):
        row[: schema.nbytes] = update.buffer
    # In two parts, so that the second finds something there.
    for part in (slice(0, 4), slice(4, None)):
        many.fold_rows({"delta": rows[part]}, {"delta": weights[part]})
    mine, theirs = one.result()["delta"], many.result()["delta"]
    np.testing.assert_array_equal(mine.total.values, theirs.total.values)
    assert (mine.weight, mine.count) == (theirs.weight, theirs.count)


def test_blocks_of_one_array_have_exponents_of_their_own():
    big = np.zeros(40_000, np.float32)
    big[0], big[-1] = 1e30, 1e-20
    total = LadderSum(Arrays.of([big]).schema)
    total.add(Arrays.of([big]), 1.0)
    # In the last block nothing large was seen, so the small value is not rounded away.
    assert total.value()["0"][-1] == np.float32(1e-20)


def test_a_value_beyond_the_ladder_is_refused():
    arrays = Arrays.of([np.array([1e281])])
    with pytest.raises(ArraysError, match="1e\\+280"):
        LadderSum(arrays.schema).add(arrays, 1.0)


@pytest.mark.parametrize("reducer", [Mean(), Mean(exact=False), Median()])
def test_reducers_keep_the_laws(reducer):
    check_reducer(reducer)


@pytest.mark.parametrize("code", ["bfloat16", "float16", "uint8", "int64", "0-d"])
def test_unusual_arrays_average_correctly(code):
    from umbel.dtypes import narrow

    values = np.array([1.0, 2.0, 5.0])
    groups = []
    for value in values:
        array = {
            "bfloat16": lambda v: narrow(np.full(4, v), "BF16"),
            "float16": lambda v: np.full(4, v, np.float16),
            "uint8": lambda v: np.full(4, v, np.uint8),
            "int64": lambda v: np.full(4, int(v) * 10**12),
            "0-d": lambda v: np.array(v),
        }[code](value)
        groups.append({"delta": Group(Arrays.of({"x": array}), 2.0)})
    total = Mean().start({"delta": groups[0]["delta"].arrays.schema})
    for group in groups:
        total.fold(group)
    mean = total.result()["delta"].mean()["x"]
    expected = values.mean() * (10**12 if code == "int64" else 1)
    assert np.allclose(mean, expected, rtol=1e-15)


def test_the_median_ignores_a_minority_of_liars():
    schema = Arrays.of([np.zeros(3)]).schema
    total = Median().start({"delta": schema})
    for value in (1.0, 1.1, 0.9, 1e9, -1e9):
        total.fold({"delta": Group(Arrays.of([np.full(3, value)]), 1.0)})
    assert np.allclose(total.result()["delta"].mean()["0"], 1.0)
