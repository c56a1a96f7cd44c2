"""A2: nothing is read from masked updates, all is read from plain ones, and missing masks are found."""

from __future__ import annotations

import numpy as np
import pytest

import umbel as fl
from umbel.message import Context
from umbel.privacy.leak import first_layer_input, psnr_db
from umbel.runtimes.privacy_report.seen import judged, seen
from umbel.runtimes.privacy_report.specimen import client_with, drawing

pytest.importorskip("cryptography")


@pytest.mark.parametrize("settings", [fl.Secure(), fl.Secure(suite="SA1-C", clip=690.0, weight_cap=1.0, metrics=())])
def test_masked_updates_tell_nothing_and_plain_ones_everything(settings):
    rows = list(seen(settings))
    assert [row.verdict for row in rows] == ["passed"] * 4
    assert rows[0].numbers["control_psnr_db"] > 30
    assert rows[0].numbers["psnr_db"] < 12
    assert [picture.title[:4] for picture in rows[0].pictures] == ["a pi", "read", "read"]
    assert rows[2].numbers["pieces"] > 10


def test_a_run_without_secure_sums_is_weak_and_told_what_can_be_read():
    [row] = seen(None)
    assert row.verdict == "weak"
    assert row.control is not None
    assert row.control.works


@pytest.fixture
def played():
    from umbel.runtimes.privacy_report.transcript import plain_round, secure_round

    clients = {str(number): client_with(drawing(number), number) for number in range(4)}
    strategy = fl.FedSGD()
    task = strategy.task(strategy.init(clients["0"].parameters(Context("0", 0, 4))), 1)
    return secure_round(clients, strategy, task, fl.Secure()), plain_round(clients, strategy, task)["1"], task


def verdicts(story, update, task, picture=None):
    found = judged(story, drawing(1) if picture is None else picture, update, task)
    return {row.name: row.verdict for row in found}


def test_uploads_without_masks_are_found_by_each_look(played):
    story, update, task = played
    assert set(verdicts(story, update, task).values()) == {"passed"}
    story.uploads = story.bare
    story.messages = [upload.tobytes() for upload in story.bare.values()]
    found = verdicts(story, update, task)
    assert found["one client's update"] == "failed"
    assert found["bytes of masked updates"] == "failed"
    assert found["search for the update"] == "failed"


def test_masks_from_a_mersenne_twister_are_found(played):
    story, update, task = played
    weak = np.random.Generator(np.random.MT19937(7)).integers(0, 2**32, len(story.bare["0"]), np.uint32)
    story.uploads = {**story.uploads, "0": story.bare["0"] + weak}
    assert verdicts(story, update, task)["bytes of masked updates"] == "failed"


def test_an_attack_whose_control_reads_nothing_shows_nothing(played):
    story, update, task = played
    # Another picture than the client's: the division reads the client's, so the control is off.
    assert verdicts(story, update, task, drawing(3))["one client's update"] == "not shown"


def test_a_wrong_sum_is_found(played):
    story, update, task = played
    story.is_exact = False
    assert verdicts(story, update, task)["sum of masked updates"] == "failed"


def test_a_unit_without_gradient_leaks_nothing():
    assert not first_layer_input(np.ones((3, 2)), np.zeros(2)).any()


def test_decibels_are_those_of_images_from_0_to_1():
    assert psnr_db(np.zeros(4), np.full(4, 0.1)) == pytest.approx(20)
    assert psnr_db(np.zeros(4), np.zeros(4)) == 200
    assert psnr_db(np.ones(4), np.full(4, np.nan)) == 0
