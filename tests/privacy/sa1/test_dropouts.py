"""Clients may leave after any step: the sum is exact, or there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.privacy.sa1.transcript import Transcript, answered, offer_of, parties_of, play, purpose_of, vectors_of

from umbel.errors import ProtocolError, SecureAborted, SecureRefused
from umbel.privacy.sa1.conversation import Conversation
from umbel.privacy.sa1.keyring import Keyring

PARTIES = parties_of(7)


@st.composite
def rounds(draw, fewest, most):
    """A cohort, its threshold, and who leaves after which step."""
    count = draw(st.integers(fewest, most))
    threshold = draw(st.integers(count // 2 + 1, count))
    # A client leaves after one of the five steps, or (5) stays. Most stay, or hardly a round would reach the end.
    steps = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5]), min_size=count, max_size=count))
    return count, max(2, threshold), draw(st.integers(0, 9)), steps


def judged(talk, parties, gone, kept=None):
    """What the clients remember if the sum is exact, None after an abort; anything else fails."""
    vectors = vectors_of(talk.purpose, list(parties))
    try:
        story = play(parties, talk, vectors, gone, kept)
    except (SecureAborted, SecureRefused):
        return None
    left = set().union(*gone[:3])
    length = talk.purpose.encoding.length
    expected = sum((vectors[name] for name in parties if name not in left), np.zeros(length, np.uint32))
    np.testing.assert_array_equal(story.total, expected)
    return story.kept


@pytest.mark.slow
@settings(max_examples=1700, deadline=None)
@given(rounds(2, 4))
def test_dropouts_at_any_step_give_the_exact_sum_or_a_clean_abort(case):
    check(case)


@settings(max_examples=200, deadline=None)
@given(rounds(5, 7))
def test_dropouts_in_larger_cohorts_give_the_exact_sum_or_a_clean_abort(case):
    check(case)


def check(case):
    """The sum is exact if the threshold is left at the end, and aborted otherwise."""
    count, threshold, size, steps = case
    parties = dict(list(PARTIES.items())[:count])
    gone = [{name for name, at in zip(parties, steps, strict=True) if at == step} for step in range(5)]
    talk = Conversation(offer_of(count, threshold=threshold), purpose_of(count, size), list(parties))
    exact = judged(talk, parties, gone) is not None
    assert exact == (sum(step == 5 for step in steps) >= threshold)


@settings(max_examples=150, deadline=None)
@given(st.integers(3, 6), st.lists(st.lists(st.integers(0, 11), min_size=6, max_size=6), min_size=2, max_size=5))
def test_sums_one_after_the_other_with_keys_made_ahead_are_each_exact_or_aborted(count, sums):
    parties, kept = dict(list(PARTIES.items())[:count]), {}
    keys = Keyring("run", threshold_share=0.5, neighbours=0, suite="SA1")
    for number, steps in enumerate(sums):
        gone = [{name for name, at in zip(parties, steps, strict=False) if at == step} for step in range(5)]
        talk = keys.conversation(purpose_of(count, 3, round=number), list(parties))
        after = judged(talk, parties, gone, kept)
        assert (after is not None) == (sum(step >= 5 for step in steps[:count]) >= count // 2 + 1)
        if after is not None:
            keys.opened(talk)
            kept = after


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=64, max_size=64))
def test_dropouts_in_a_sparse_graph_give_the_exact_sum_or_a_clean_abort(steps):
    parties = parties_of(64)
    gone = [{name for name, at in zip(parties, steps, strict=True) if at == step} for step in range(5)]
    talk = Conversation(offer_of(64, threshold=4, neighbours=6), purpose_of(64, 3), list(parties))
    judged(talk, parties, gone)


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_messages_that_come_late_twice_or_in_another_order_change_no_sum(random):
    parties, purpose = dict(list(PARTIES.items())[:5]), purpose_of(5, 4)
    vectors, sent = vectors_of(purpose, list(parties)), []
    talk = Conversation(offer_of(5, threshold=3), purpose, list(parties), ahead=offer_of(5, threshold=3, number=1))
    story = Transcript(talk, {})

    def deliver(step, name, answer):
        try:
            talk.masked(name, story.uploads[name], answer) if step == "mask" else talk.took(name, answer)
        except ProtocolError:
            return False
        return True

    try:
        while (turn := talk.go_on()) is not None:
            step, told = turn
            fresh = [
                (step, name, answered(story, parties[name], {**own, "step": step}, vectors))
                for name, own in told.items()
            ]
            late = [message for message in fresh if random.random() < 0.1]
            now = [*(message for message in fresh if message not in late), *(random.choices(sent, k=3) if sent else [])]
            now += random.choices(fresh, k=2)
            random.shuffle(now)
            for message in now:
                deliver(*message)
            # What is late comes in the next step, where it is refused.
            sent += fresh
        talk.decoded()
    except SecureAborted:
        return
    expected = sum((vectors[name] for name in talk.summed), np.zeros(purpose.encoding.length, np.uint32))
    np.testing.assert_array_equal(talk.server.total, expected)
