"""A phase whose asks are out, and when those who work on them are told to hurry."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

from umbel.arrays import Arrays
from umbel.message import Ask, Task
from umbel.schema import Schema

HURRY_SHARE, HURRY_LEAST_S = 0.1, 0.5


@final
@dataclass(eq=False)
class Opened:
    """A phase under way, or an earlier one to which answers are still awaited.

    Attributes:
        schema: what is expected back.
        blobs, digests: the task's arrays as they travel, and their names.
        asks: what is out, by client.
        asked_s: when each client was asked, on the session's clock.
        answer_bytes: the most that an answer may have.
    """

    task: Task
    kind: str
    attempt: int
    began_s: float
    ends_at_s: float
    schema: dict[str, Schema]
    blobs: dict[str, Arrays]
    digests: dict[str, str]
    asks: dict[str, Ask] = field(default_factory=dict[str, Ask])
    asked_s: dict[str, float] = field(default_factory=dict[str, float])
    hurried: bool = False
    answer_bytes: int = 0

    @property
    def hurries_at_s(self) -> float:
        """When to say that time is running out; never twice."""
        if self.hurried or math.isinf(self.ends_at_s):
            return math.inf
        whole = self.ends_at_s - self.began_s
        return self.ends_at_s - min(whole / 2, max(HURRY_LEAST_S, HURRY_SHARE * whole))
