"""What the pages for operators and data owners say is so: policies load, events are listed."""

import re
from pathlib import Path

import pytest

pytest.importorskip("click")

from umbel.cli import log
from umbel.runtimes.node.policy import load_policy
from umbel.runtimes.node.process import ENFORCES

PAGES = Path(__file__).parents[2] / "docs" / "deploy"
POLICIES = re.findall(r"^```toml\n(.*?)^```$", (PAGES / "onboarding.md").read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("text", POLICIES, ids=["to begin with", "strict"])
def test_the_policies_for_a_hospital_are_kept_by_a_node(text, tmp_path):
    (tmp_path / "policy.toml").write_text(text)
    assert load_policy(tmp_path / "policy.toml", worker_enforces=ENFORCES).privacy.min_cohort >= 3


def test_each_event_of_the_log_is_in_the_page_on_operating():
    page = (PAGES / "operate.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.+?) \| (info|warning|error) \|", page, re.M)
    told = {(event, level) for events, level in rows for event in re.findall(r"`(\w+)`", events)}
    known = {(event, level) for event, level, _ in log.EVENTS} | {("note", "info"), ("ended", "error")}
    assert told == known
