import math

from hypothesis import given
from hypothesis import strategies as st

from umbel.observe.sparkline import BARS, sparkline

floats = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(floats, min_size=1, max_size=200), st.integers(1, 60))
def test_there_is_a_bar_for_each_value_up_to_the_width(values, width):
    line = sparkline(values, width=width)
    assert len(line) == min(len(values), width)
    assert set(line) <= set(BARS)


@given(st.lists(floats, min_size=2, max_size=40, unique=True))
def test_the_smallest_value_has_the_lowest_bar_and_the_largest_the_highest(values):
    line = sparkline(values)
    assert line[values.index(min(values))] == BARS[0]
    assert line[values.index(max(values))] == BARS[-1]


@given(st.lists(floats, min_size=2, max_size=200), st.integers(1, 40))
def test_a_rising_series_never_falls(values, width):
    line = sparkline(sorted(values), width=width)
    assert list(line) == sorted(line)


def test_equal_values_are_a_level_line():
    assert sparkline([2.0] * 3) == BARS[3] * 3


def test_what_is_not_finite_leaves_a_gap():
    assert sparkline([0.0, math.nan, 1.0, math.inf]) == f"{BARS[0]} {BARS[-1]} "
    assert sparkline([math.nan]) == " "
    assert sparkline([]) == ""
    assert sparkline([0.0, math.nan, math.nan, math.nan, 1.0, 1.0], width=3) == f"{BARS[0]} {BARS[-1]}"
