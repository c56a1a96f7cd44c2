"""Clients may leave after any step: the sum is exact, or there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.privacy.sa1.transcript import offer_of, parties_of, play, vectors_of

from umbel.errors import ProtocolError, SecureAborted, SecureRefused
from umbel.privacy.sa1.conversation import STEPS, Conversation
from umbel.privacy.sa1.joining import advertise, share
from umbel.privacy.sa1.masking import agree, mask, release

PARTIES = parties_of(7)


@st.composite
def rounds(draw, fewest, most):
    """A cohort, its threshold, and who leaves after which step."""
    count = draw(st.integers(fewest, most))
    threshold = draw(st.integers(count // 2 + 1, count))
    # A client leaves after one of the five steps, or (5) stays. Most stay, or hardly a round would reach the end.
    steps = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5]), min_size=count, max_size=count))
    return count, max(2, threshold), draw(st.integers(0, 9)), steps


def judged(offer, parties, vectors, gone):
    """True if the sum is exact, False after an abort; anything else fails."""
    try:
        story = play(parties, offer, vectors, gone)
    except (SecureAborted, SecureRefused):
        return False
    left = set().union(*gone[:3])
    expected = sum((vectors[name] for name in parties if name not in left), np.zeros(offer.encoding.length, np.uint32))
    np.testing.assert_array_equal(story.total, expected)
    return True


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
    offer = offer_of(count, size, threshold=threshold)
    gone = [{name for name, at in zip(parties, steps, strict=True) if at == step} for step in range(5)]
    exact = judged(offer, parties, vectors_of(offer, list(parties)), gone)
    assert exact == (sum(step == 5 for step in steps) >= threshold)


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=64, max_size=64))
def test_dropouts_in_a_sparse_graph_give_the_exact_sum_or_a_clean_abort(steps):
    parties = parties_of(64)
    offer = offer_of(64, 3, threshold=4, neighbours=6)
    gone = [{name for name, at in zip(parties, steps, strict=True) if at == step} for step in range(5)]
    judged(offer, parties, vectors_of(offer, list(parties)), gone)


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_messages_that_come_late_twice_or_in_another_order_change_no_sum(random):
    parties = dict(list(PARTIES.items())[:5])
    offer = offer_of(5, 4, threshold=3)
    vectors, members, sent = vectors_of(offer, list(parties)), {}, []
    talk = Conversation(offer, list(parties))

    def deliver(step, name, message):
        try:
            talk.server.masked(name, message) if step == "mask" else talk.took(step, name, message)
        except ProtocolError:
            return False
        return True

    try:
        for step in STEPS:
            fresh = []
            for name, message in talk.messages(step).items():
                party, last = parties[name], members.get(name)
                if step == "advertise":
                    members[name], answer = advertise(party, message)
                elif step == "mask":
                    members[name], answer = mask(party, last, message, offer.model, vectors[name].copy())
                else:
                    work = {"share": share, "agree": agree, "release": release}[step]
                    members[name], answer = work(party, last, message)
                fresh.append((step, name, answer))
            late = [message for message in fresh if random.random() < 0.1]
            now = [*(message for message in fresh if message not in late), *(random.choices(sent, k=3) if sent else [])]
            now += random.choices(fresh, k=2)
            random.shuffle(now)
            for message in now:
                deliver(*message)
            # What is late comes in the next step, where it is refused.
            sent += fresh
        total = talk.server.result()
    except SecureAborted:
        return
    expected = sum((vectors[name] for name in talk.summed), np.zeros(offer.encoding.length, np.uint32))
    np.testing.assert_array_equal(total, expected)
