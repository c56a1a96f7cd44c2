from __future__ import annotations

import pytest

from umbel.runtimes.privacy_report.row import Control, attacked


@pytest.mark.parametrize(
    ("holds", "works", "verdict"),
    [
        (True, True, "passed"),
        (True, False, "not shown"),
        (False, True, "failed"),
        (False, False, "failed"),
    ],
)
def test_what_an_attack_does_not_find_counts_only_where_its_control_found_it(holds, works, verdict):
    row = attacked("A2", "name", holds=holds, control=Control(works, "seen"), text="text", mend="do")
    assert row.verdict == verdict
    assert row.is_problem == (verdict != "passed")
    assert bool(row.mend) == row.is_problem
