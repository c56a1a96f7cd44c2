"""The data owner's `policy.toml`: reading it. What its rules mean is in `rules`.

What is not understood is refused: a rule that nobody keeps must not look like one.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

from umbel.coordinators.where import checked_attributes
from umbel.errors import ConfigError
from umbel.privacy.psi.consent import Consent
from umbel.runtimes.node.conditions import Conditions, read_conditions
from umbel.runtimes.node.rules import (
    BUILTIN,
    DAYS,
    Apps,
    Data,
    Keep,
    Limits,
    Policy,
    Privacy,
    Strategies,
    When,
    Window,
    digest_of,
    is_digest,
    review,
)

__all__ = ["WORKERS", "Conditions", "Policy", "digest_of", "load_policy", "read_conditions", "review"]

Reader: TypeAlias = "Callable[[Any], Any]"
# A worker in the node's own process cannot keep these; one in a process of its own says that it does.
WORKERS = ("limits.cpu_seconds_per_round", "limits.memory_gb", "limits.threads")
# The one table whose keys are the owner's own.
ATTRIBUTES = "attributes"
_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


def load_policy(path: str | Path, *, worker_enforces: Collection[str] = ()) -> Policy:
    """The policy in a TOML file.

    Args:
        worker_enforces: which of `WORKERS` the node's worker keeps.

    Raises:
        ConfigError: the file cannot be read, or has a key or a value that is unknown or not enforced; names it.
    """
    try:
        tables = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"the policy {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the policy {path} is not valid TOML: {error}") from None
    found = {name: _table(path, name, value) for name, value in tables.items()}
    for key in (f"limits.{name}" for name in found.get("limits", ())):
        if key in WORKERS and key not in worker_enforces:
            raise ConfigError(
                f"the policy {path} sets {key}, which this node does not enforce; remove it, or run the client in a "
                "process of its own"
            )
    made = {name: _MADE_OF[name](**values) for name, values in found.items()}
    return Policy(**made)


def _table(path: str | Path, name: str, value: Any) -> dict[str, Any]:
    if name not in (*_KEYS, ATTRIBUTES):
        raise _unknown(path, name, (*_KEYS, ATTRIBUTES))
    if not isinstance(value, dict):
        raise ConfigError(f"the policy {path}: {name} is a table, write [{name}]")
    if name == ATTRIBUTES:
        try:
            return dict(checked_attributes(cast("dict[str, Any]", value)))
        except ConfigError as error:
            raise ConfigError(f"the policy {path}: {error}") from None
    found: dict[str, Any] = {}
    for key, given in cast("dict[str, Any]", value).items():
        if key not in _KEYS[name]:
            raise _unknown(path, f"{name}.{key}", [f"{name}.{known}" for known in _KEYS[name]])
        try:
            found[key] = _KEYS[name][key](given)
        except ValueError as error:
            raise ConfigError(f"the policy {path}: {name}.{key} {error}, got {given!r}") from None
    return found


def _unknown(path: str | Path, key: str, known: Collection[str]) -> ConfigError:
    close = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return ConfigError(f"the policy {path} has the unknown key {key}, which nobody would enforce; {hint}")


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is true or false")
    return value


def _secure(value: Any) -> bool | str:
    if not isinstance(value, bool) and value != "encrypted":
        raise ValueError('is true, false or "encrypted"')
    return value


def _whole(least: int) -> Reader:
    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"is a whole number of at least {least}")
        return value

    return read


def _positive(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError("is a number above 0")
    return value


def _chance(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1:
        raise ValueError("is a number above 0 and below 1")
    return value


def _share(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0.5 <= value < 1:
        raise ValueError("is a number from 0.5 to below 1")
    return value


def _texts(is_right: Callable[[str], bool], what: str) -> Reader:
    def read(value: Any) -> tuple[str, ...]:
        items = cast("list[Any]", value) if isinstance(value, list) else [None]
        if not all(isinstance(item, str) and is_right(item) for item in items):
            raise ValueError(f"is a list of {what}")
        return tuple(map(str, items))

    return read


def _some(read: Reader) -> Reader:
    """Refuses an empty list, which could mean never or always."""

    def not_empty(value: Any) -> Any:
        if value == []:
            raise ValueError("needs at least one entry; leave it out to mean all")
        return read(value)

    return not_empty


def _review(value: Any) -> str:
    if value not in ("none", "manual"):
        raise ValueError('is "none" or "manual"')
    return value


def _windows(value: Any) -> tuple[Window, ...]:
    spans = _texts(lambda text: _SPAN.fullmatch(text) is not None, 'spans like "22:00-06:00"')(value)
    return tuple(_window(span) for span in spans)


def _window(span: str) -> Window:
    first_hour, first_minute, hour, minute = (int(part) for part in re.split("[:-]", span))
    first, end = 60 * first_hour + first_minute, 60 * hour + minute
    if end > 24 * 60 or first == end:
        raise ValueError('is a list of spans that end by "24:00" and do not end when they begin')
    return first, end


_ANY = _texts(lambda text: bool(text.strip()), "names")
_KEYS: Mapping[str, Mapping[str, Reader]] = {
    "apps": {
        "allow": _texts(lambda text: text == BUILTIN or is_digest(text), 'digests "sha256:…" (64 digits) or "builtin"'),
        "review": _review,
        "reviewed": _texts(is_digest, 'digests "sha256:…" (64 digits)'),
    },
    "strategies": {"allow": _ANY},
    "privacy": {
        "min_cohort": _whole(1),
        "min_threshold_share": _share,
        "max_weight_cap": _positive,
        "require_secure_aggregation": _secure,
        "require_differential_privacy": _truth,
        "epsilon_total": _positive,
        "delta": _chance,
        "per_client_metrics": _truth,
    },
    "limits": {
        "rounds_per_day": _whole(0),
        "max_upload_mb": _positive,
        "max_download_mb": _positive,
        "cpu_seconds_per_round": _positive,
        "memory_gb": _positive,
        "threads": _whole(1),
    },
    "when": {
        "hours": _some(_windows),
        "days": _some(_texts(lambda text: text in DAYS, f"days out of {', '.join(DAYS)}")),
        "idle": _truth,
        "charging": _truth,
        "unmetered": _truth,
    },
    "data": {"offered": _ANY},
    "keep": {"state_days": _positive},
    "intersection": {
        "allow": _ANY,
        "max_ids": _whole(1),
        "ids_per_day": _whole(1),
        "requests_per_day": _whole(1),
    },
}
_MADE_OF: Mapping[str, Callable[..., Any]] = {
    "apps": Apps,
    "strategies": Strategies,
    "privacy": Privacy,
    "limits": Limits,
    "when": When,
    "data": Data,
    "keep": Keep,
    "intersection": Consent,
    ATTRIBUTES: dict[str, Any],
}
