"""Fixed point: sums are exact, what cannot be encoded is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import ProtocolError
from umbel.privacy.sa1 import Encoding


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3), st.floats(0, 12)),
        min_size=1,
        max_size=7,
    )
)
def test_the_decoded_sum_is_the_weighted_sum_of_clipped_values(clients):
    encoding = Encoding(clip=1.5, weight_cap=10.0, clients=7, size=3, metrics=("loss",))
    total = np.zeros(encoding.length, np.uint32)
    for values, weight in clients:
        total += encoding.encode([([np.float32(values)], weight)], examples=weight, metrics={"loss": values[0]})
    found = encoding.decode(total)
    weights = np.minimum([weight for _, weight in clients], 10.0)
    values = np.array([values for values, _ in clients])
    step = 1.5 * 10 * 7 * 2.0**-29
    np.testing.assert_allclose(found.values, weights @ np.clip(values, -1.5, 1.5), atol=7 * step)
    assert found.weights[0] == pytest.approx(weights.sum(), abs=1e-6)
    assert found.examples == pytest.approx(weights.sum(), abs=1e-6)
    assert found.metrics["loss"][0] == pytest.approx(float(weights @ values[:, 0]), abs=1e-4)


def test_whole_weights_are_exact():
    encoding = Encoding(clip=1.0, weight_cap=1000.0, clients=100, size=1)
    total = sum((encoding.encode([([np.float32([1])], float(w))]) for w in range(100)), np.zeros(4, np.uint32)[:4])
    found = encoding.decode(total)
    assert found.weights[0] == sum(range(100))


def test_no_sum_of_full_vectors_wraps_around():
    for clients in (1, 2, 3, 7, 60, 1000, 99_999):
        encoding = Encoding(clip=0.7, weight_cap=3.3, clients=clients, size=1)
        most = encoding.encode([([np.float32([5])], 9.0)]).view(np.int32)
        assert most.min() >= 0
        assert int(most.max()) * clients < 2**31


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad):
    encoding = Encoding(clip=1.0, weight_cap=1.0, clients=2, size=2, metrics=("loss",))
    with pytest.raises(ProtocolError, match="NaN or an infinite"):
        encoding.encode([([np.float32([0, bad])], 1.0)])
    with pytest.raises(ProtocolError, match="metric"):
        encoding.encode([([np.float32([0, 0])], 1.0)], metrics={"loss": bad})
    with pytest.raises(ProtocolError, match="weight"):
        encoding.encode([([np.float32([0, 0])], bad)])


def test_who_was_cut_is_counted_not_named():
    encoding = Encoding(clip=1.0, weight_cap=1.0, clients=3, size=1)
    vectors = [encoding.encode([([np.float32([x])], w)]) for x, w in [(0.5, 1.0), (3.0, 1.0), (0.0, 2.0)]]
    assert encoding.decode(sum(vectors, np.zeros(4, np.uint32))).saturated == 2


def test_a_metric_that_nobody_reports_has_no_examples():
    encoding = Encoding(clip=1.0, weight_cap=10.0, clients=2, size=0, metrics=("loss", "accuracy"))
    vector = encoding.encode([([], 0.0)], examples=4.0, metrics={"accuracy": 0.5})
    found = encoding.decode(vector).metrics
    assert found["loss"] == (0.0, 0.0)
    assert found["accuracy"] == pytest.approx((2.0, 4.0), abs=1e-5)


def test_an_encoding_survives_its_bytes():
    encoding = Encoding(clip=0.3, weight_cap=7.0, clients=9, size=11, groups=2, metrics=("loss", "größe"))
    assert Encoding.read(encoding.data) == encoding
