"""Whether a run's log is whole: its chain, its signatures, its plan, and what a run that is over has to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from umbel.stores import RunInfo
from umbel.stores.abstract import standing
from umbel.stores.link import Check, Verdict, plan_digest, verify

OVER = ("finished", "failed", "interrupted")
"""How a run stands that nobody leads any more, as its store says."""


def looked(
    info: RunInfo,
    log: Sequence[Mapping[str, Any]],
    *,
    check: Check | None,
    trusts: bool,
    head: str | None = None,
    seen: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """The verdict on the log of a run, as `link.verify` gives it, and on what is missing at its end.

    Args:
        check: says what is wrong with the signature of a tree head; None looks at none.
        trusts: whether a key or a CA is known whose signatures count. Then a log that is over has to be signed.
        head, seen: as in `link.verify`.
    """
    verdict = verify(info.id, log, head=head, seen=seen, check=check, plan=plan_digest(info.plan))
    if verdict.problem is not None:
        return verdict
    ends = any(event.get("kind") == "ended" for event in standing(log))
    return replace(verdict, problem=_why_not_over(info.status, verdict, ends=ends, trusts=trusts))


def _why_not_over(status: str, verdict: Verdict, *, ends: bool, trusts: bool) -> str | None:
    """What the log of a run of this status lacks at its end."""
    if status == "finished" and not ends:
        # Whoever ends a run says so in its log first.
        return f"the run is finished, and none of the {verdict.events} events in its log says so: its end was cut off"
    if status not in OVER or not trusts:
        return None
    if not verdict.events:
        return f"the run is {status}, and its log has no events: they were removed, or it was stopped before it began"
    if not ends:
        return f"the run is {status}, and its log does not say so: its end was cut off, or who led it broke off"
    if not verdict.tree_heads:
        return (
            f"the run is {status}, and nothing in its log is signed, though a key is known here: the log was written "
            "anew, or by a version or on a machine that signed nothing"
        )
    if verdict.covered < verdict.events - 1:
        later = verdict.events - 1 - verdict.covered
        return (
            f"the run is {status}, and its log is signed up to event {verdict.covered} only: the {later} after it were "
            "put in, or what signed them was cut off"
        )
    return None
