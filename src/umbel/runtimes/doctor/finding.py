"""`Finding`: what one check saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

Verdict: TypeAlias = Literal["ok", "warn", "fail"]


@final
@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        name: what was looked at.
        verdict: "ok", "warn" (works, but perhaps not for long) or "fail".
        text: what was seen, in a sentence.
        mend: what to do about it, in a sentence; empty where all is well.
    """

    name: str
    verdict: Verdict
    text: str
    mend: str = ""
