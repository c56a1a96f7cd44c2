"""A secure sum is the exact sum of those whose vectors arrived, or there is none."""

from __future__ import annotations

import numpy as np
import pytest
from tests.privacy.sa1.transcript import offer_of, parties_of, play, purpose_of, vectors_of

from umbel.privacy.sa1.conversation import STEPS, Conversation
from umbel.privacy.sa1.keyring import Keyring

SHORT = ["mask", "release"]


def sum_of(vectors, gone=()):
    left = [vector for name, vector in vectors.items() if name not in gone]
    return np.sum(left, axis=0, dtype=np.uint32)


def test_three_clients_sum_to_the_exact_integer_sum():
    parties, purpose = parties_of(3), purpose_of(3, 1000)
    vectors = vectors_of(purpose, list(parties))
    story = play(parties, Conversation(offer_of(3), purpose, list(parties)), vectors)
    np.testing.assert_array_equal(story.total, sum_of(vectors))
    assert story.steps == [step for step in STEPS if step != "agree"]


@pytest.mark.parametrize("suite", ["SA1", "SA1-C"])
def test_dropouts_at_every_step_leave_the_sum_of_those_whose_vectors_arrived(suite):
    parties, purpose = parties_of(12), purpose_of(12, 70_000)
    vectors = vectors_of(purpose, list(parties))
    talk = Conversation(offer_of(12, threshold=7, suite=suite), purpose, list(parties))
    story = play(parties, talk, vectors, [{"000"}, {"003"}, {"011"}, {"005"}, {"004"}])
    np.testing.assert_array_equal(story.total, sum_of(vectors, {"000", "003", "011"}))
    assert story.steps == list(STEPS)


def test_a_sparse_graph_sums_as_well_and_agrees_in_a_step_of_its_own():
    parties, purpose = parties_of(70), purpose_of(70, 20)
    vectors = vectors_of(purpose, list(parties))
    for gone in (set(), {"001", "050"}):
        talk = Conversation(offer_of(70, neighbours=12, threshold=8), purpose, list(parties))
        story = play(parties, talk, vectors, [set(), set(), gone])
        assert len(talk.server.header.neighbours[0]) == 12
        np.testing.assert_array_equal(story.total, sum_of(vectors, gone))
        assert story.steps == list(STEPS)


class Sums:
    """One sum after the other, as a run has them."""

    def __init__(self, count):
        self.parties = parties_of(count)
        self.keys = Keyring("run", threshold_share=2 / 3, neighbours=0, suite="SA1")
        self.kept, self.round = {}, 0

    def next(self, names, gone=()):
        """Play the next sum, and look that it is the right one; returns its steps."""
        self.round += 1
        purpose = purpose_of(len(names), 9, round=self.round)
        vectors = vectors_of(purpose, names, seed=self.round)
        talk = self.keys.conversation(purpose, names)
        story = play(self.parties, talk, vectors, gone, self.kept)
        left = set().union(*gone[:3])
        np.testing.assert_array_equal(story.total, sum_of(vectors, left))
        assert talk.summed == tuple(name for name in names if name not in left)
        self.keys.opened(talk)
        self.kept = story.kept
        return story.steps


def test_the_second_sum_of_the_same_clients_has_two_steps():
    sums = Sums(4)
    names = list(sums.parties)
    assert sums.next(names) == ["advertise", "share", *SHORT]
    uploads = []
    for _ in range(3):
        assert sums.next(names) == SHORT
        uploads.append({name: kept.member.bound for name, kept in sums.kept.items()})
    assert len({bound for each in uploads for bound in each.values()}) == 3


def test_keys_that_were_made_ahead_are_of_no_use_to_other_clients():
    sums = Sums(6)
    names = list(sums.parties)
    sums.next(names[:5])
    assert sums.next(names[1:]) == ["advertise", "share", *SHORT]
    # Whom the next sum will ask cannot be told now: nothing is made ahead until two were of the same.
    assert sums.next(names[1:]) == ["advertise", "share", *SHORT]
    assert sums.next(names[1:]) == SHORT


@pytest.mark.parametrize(("step", "steps"), [(2, ["mask", "agree", "release"]), (4, SHORT)])
def test_after_somebody_dropped_out_the_next_sum_begins_with_keys_for_those_who_are_back(step, steps):
    sums = Sums(5)
    names = list(sums.parties)
    sums.next(names)
    assert sums.next(names, [set()] * step + [{"002"}]) == steps
    assert sums.next(names) == ["advertise", "share", *SHORT]
    assert sums.next(names) == SHORT
