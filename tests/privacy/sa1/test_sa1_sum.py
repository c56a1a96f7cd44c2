"""A secure sum is the exact sum of those whose vectors arrived, or there is none."""

from __future__ import annotations

import numpy as np
import pytest
from tests.privacy.sa1.transcript import offer_of, parties_of, play, vectors_of


def test_three_clients_sum_to_the_exact_integer_sum():
    parties = parties_of(3)
    offer = offer_of(3, 1000)
    vectors = vectors_of(offer, list(parties))
    story = play(parties, offer, vectors)
    assert story.total is not None
    np.testing.assert_array_equal(story.total, sum(vectors.values(), np.zeros(offer.encoding.length, np.uint32)))


@pytest.mark.parametrize("suite", ["SA1", "SA1-C"])
def test_dropouts_at_every_step_leave_the_sum_of_those_whose_vectors_arrived(suite):
    parties = parties_of(12)
    offer = offer_of(12, 70_000, threshold=7, suite=suite)
    vectors = vectors_of(offer, list(parties))
    story = play(parties, offer, vectors, [{"000"}, {"003"}, {"011"}, {"005"}, {"004"}])
    expected = sum((v for name, v in vectors.items() if name not in {"000", "003", "011"}), np.uint32(0))
    np.testing.assert_array_equal(story.total, expected)


def test_a_sparse_graph_sums_as_well():
    parties = parties_of(70)
    offer = offer_of(70, 20, neighbours=12, threshold=8)
    vectors = vectors_of(offer, list(parties))
    story = play(parties, offer, vectors, [set(), set(), {"001", "050"}])
    assert len(story.server.header.neighbours[0]) == 12
    expected = sum((v for name, v in vectors.items() if name not in {"001", "050"}), np.uint32(0))
    np.testing.assert_array_equal(story.total, expected)
