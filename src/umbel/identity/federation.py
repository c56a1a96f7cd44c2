"""`Federation`: a named group of members, apps and quotas on one server, which sees nothing of the others."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast, final

from umbel.errors import IdentityError

DEFAULT = "default"
OVER = ("wait", "refuse")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@final
@dataclass(frozen=True, kw_only=True)
class Federation:
    """Who is not asked for a federation is in "default". None is no limit.

    Attributes:
        apps: names of the installed apps that it may run; None is all of them.
        rounds_per_day, bytes_per_day, node_seconds_per_day: what its runs may use in a day of UTC; a round that began
            within the quota is finished.
        runs_at_once: how many of its runs may be under way; others wait.
        regions: where the data may be from, as the data cards of nodes say; None is everywhere, and asks for no card.
        over: what becomes of a run that is begun over quota: "wait" or "refuse".

    Raises:
        IdentityError: a name or a number is none.
    """

    name: str
    apps: tuple[str, ...] | None = None
    rounds_per_day: int | None = None
    bytes_per_day: int | None = None
    node_seconds_per_day: float | None = None
    runs_at_once: int | None = None
    over: str = "wait"
    regions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise IdentityError(
                f"a federation's name is 1 to 64 lower-case letters, digits and -, got {self.name!r}; try 'cardiology'"
            )
        for key in ("rounds_per_day", "bytes_per_day", "node_seconds_per_day", "runs_at_once"):
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise IdentityError(f"{key} must be at least 0, got {value}; leave it out for no limit")
        if self.over not in OVER:
            raise IdentityError(f"over must be 'wait' or 'refuse', got {self.over!r}")

    def to_text(self) -> str:
        """What the ledger keeps, without the name."""
        return json.dumps({key: value for key, value in asdict(self).items() if key != "name"})


def from_text(name: str, text: str) -> Federation:
    """The federation that `to_text` wrote. What a later version added is passed over."""
    kept = cast("Mapping[str, Any]", json.loads(text))
    known: dict[str, Any] = {key: kept[key] for key in Federation.__dataclass_fields__ if key in kept}
    for key in ("apps", "regions"):
        if known.get(key) is not None:
            known[key] = tuple(known[key])
    known["name"] = name
    return Federation(**known)
