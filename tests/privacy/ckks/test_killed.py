"""`kill -9` of the server within encrypted rounds: before it sends messages, and before it takes in an answer."""

import multiprocessing

import pytest

from deployed.test_killed_in_a_secure_round import NAMES, ROUNDS, run

from .talk import SMALL

pytest.importorskip("tenseal")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "forkserver" not in multiprocessing.get_all_start_methods(), reason="no processes can be forked"
    ),
]
STEP = 17
"""Every so many visits one is the last. It shares no factor with the visits of a round, so that all kinds are met."""


def test_a_server_killed_at_any_step_of_encrypted_rounds_ends_in_the_bits_of_the_undisturbed_run(tmp_path):
    outcome, visits = run(tmp_path / "undisturbed", secure_sum=SMALL)
    # Five steps' messages; an answer of each client to three of them and of one to two; to train and to evaluate.
    assert visits == ROUNDS * 2 * (5 + 3 * len(NAMES) + 2)
    for at in range(STEP, visits, STEP):
        assert run(tmp_path / f"{at}", at=at, secure_sum=SMALL)[0] == outcome, f"killed at visit {at} of {visits}"


def test_a_server_that_goes_back_more_than_a_round_is_answered_as_well(tmp_path):
    outcome, visits = run(tmp_path / "undisturbed", checkpoint_every=3, secure_sum=SMALL)
    assert run(tmp_path / "killed", at=visits - 1, checkpoint_every=3, secure_sum=SMALL)[0] == outcome
