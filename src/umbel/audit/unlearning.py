"""Reports on a client that was forgotten, signed by who keeps the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.audit.key import LogKey
from umbel.stores.link import Check, canonical

KIND = "unlearning"
NOT_SIGNED = ("key", "signature", "certificate")


def report_bytes(report: Mapping[str, Any]) -> bytes:
    """What the signature of a report is over: all of it but who signs."""
    return b"umbel unlearning 1\n" + canonical({k: v for k, v in report.items() if k not in NOT_SIGNED})


def signed_report(report: Mapping[str, Any], stand: Mapping[str, Any], key: LogKey) -> dict[str, Any]:
    """A report bound to the log as it is.

    Args:
        stand: run, size, root, head and at_s of the log, with the event that the client was forgotten in it.
    """
    told = {"format": 1, "kind": KIND, **report, **stand}
    told |= {"key": key.public, "signature": key.sign(report_bytes(told))}
    return told | ({"certificate": key.certificate} if key.certificate else {})


def why_no_report(report: Mapping[str, Any], check: Check | None) -> str | None:
    """What is wrong with a report, in the rest of a sentence; None if it was signed as it is.

    Args:
        check: says what is wrong with a signature over `report_bytes`; None looks at none.
    """
    if not all(isinstance(report.get(name), str) for name in ("client", "method", "guarantee", "signature")):
        return "cannot be read"
    return check and check(report)
