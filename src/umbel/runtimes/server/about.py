"""`About`: what a node says about itself in its hello, looked at once: all behind it may rely on types and sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast, final

from umbel.coordinators.where import Plain, checked_attributes
from umbel.errors import ConfigError, ProtocolError

MOST_ENTRIES, LONGEST_TEXT = 256, 200
LONGEST_AWAY_S = 1e12


@final
@dataclass(frozen=True, kw_only=True)
class About:
    """What a node says about itself. `about_in` makes it; what else a node may say is dropped there.

    Attributes:
        attributes: what conditions on nodes can speak of, name → value.
        apps: the apps that it has, name → digest; a digest may be empty.
        versions: of its libraries, by name.
        card: of its owner's data card the "digest", 64 hexadecimal digits, and the "region"; empty without one.
        conditions: how a device is: idle, charging, unmetered; None is what it cannot read.
        willing: whether a device would take a task now.
        since_s: seconds since a device was here before; None if it never was.
    """

    attributes: Mapping[str, Plain] = field(default_factory=dict[str, Plain])
    apps: Mapping[str, str] = field(default_factory=dict[str, str])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    card: Mapping[str, str] = field(default_factory=dict[str, str])
    conditions: Mapping[str, bool | None] = field(default_factory=dict[str, "bool | None"])
    willing: bool = True
    since_s: float | None = None

    def plain(self) -> dict[str, Any]:
        """The fields that say something, as JSON can hold them."""
        return {name: value for name, value in asdict(self).items() if value != getattr(_NOTHING, name)}


_NOTHING = About()


def about_in(text: str) -> About:
    """Read the `about` of a hello. Fields that this version does not know are dropped.

    How long it may be is the wire's to say.

    Raises:
        ProtocolError: it is no JSON object, or a field in it is of another kind or size; says which.

    Example:
        >>> about_in('{"apps": {"hospital": ""}, "later": [1]}').plain()
        {'apps': {'hospital': ''}}
    """
    try:
        told: Any = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise _wrong("it is not JSON") from None
    if not isinstance(told, dict):
        raise _wrong("it is no JSON object")
    about = cast("dict[str, Any]", told)
    return About(
        attributes=_attributes(about.get("attributes", {})),
        apps=_table(about, "apps", _is_text, "text"),
        versions=_table(about, "versions", _is_text, "text"),
        card=_card(_table(about, "card", _is_text, "text")),
        conditions=_table(about, "conditions", _is_truth, "true, false or null"),
        willing=_willing(about.get("willing", True)),
        since_s=_since(about.get("since_s")),
    )


def _attributes(given: object) -> Mapping[str, Plain]:
    try:
        return checked_attributes(given)
    except ConfigError as error:
        raise _wrong(str(error)) from None


def _table(about: Mapping[str, Any], key: str, fits: Callable[[object], bool], kind: str) -> dict[str, Any]:
    given: object = about.get(key, {})
    found = cast("dict[str, Any]", given) if isinstance(given, dict) else None
    if (
        found is None
        or len(found) > MOST_ENTRIES
        or not all(map(_is_text, found))
        or not all(map(fits, found.values()))
    ):
        raise _wrong(
            f"{key} has to be an object of at most {MOST_ENTRIES} names and values, each name text, each value {kind}"
            f" (texts are at most {LONGEST_TEXT} printable characters), got {_short(found or about[key])}"
        )
    return found


def _card(given: dict[str, Any]) -> dict[str, str]:
    if given and (re.fullmatch("[0-9a-f]{64}", given.get("digest", "")) is None or not given.get("region")):
        raise _wrong(f"card has to have a region and a digest of 64 digits of 0-9 and a-f, got {_short(given)}")
    return {key: given[key] for key in ("digest", "region") if key in given}


def _willing(given: object) -> bool:
    if not isinstance(given, bool):
        raise _wrong(f"willing has to be true or false, got {_short(given)}")
    return given


def _since(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= LONGEST_AWAY_S:
        raise _wrong(f"since_s has to be a number of seconds from 0 to {LONGEST_AWAY_S:.0e}, got {_short(given)}")
    return float(given)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()


def _is_truth(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _short(value: object) -> str:
    return repr(value)[:120]


def _wrong(why: str) -> ProtocolError:
    return ProtocolError(f"what a node says about itself is not in order: {why}")
