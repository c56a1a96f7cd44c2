"""An app's settings as somebody gives them: each of the kind of its default, and finite."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, cast

from umbel.errors import ConfigError

KINDS: dict[type[object], str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
}
LARGEST = 2**63 - 1


def checked(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given in place of an app's defaults, if it is that.

    Raises:
        ConfigError: a name is not one of the app's, or its value is of another kind, not finite or too large.

    Example:
        >>> checked({"lr": 0.1, "num_rounds": 3}, {"lr": 1})
        {'lr': 1.0}
    """
    return {key: fitted(key, value, default_of(key, defaults)) for key, value in given.items()}


def default_of(key: str, defaults: Mapping[str, Any]) -> Any:
    """The default of the setting `key`.

    Raises:
        ConfigError: there is no such setting.
    """
    if key not in defaults:
        raise ConfigError(f"the app has no setting {key[:100]!r}; {_closest(key[:100], defaults)}")
    return defaults[key]


def fitted(key: str, value: Any, default: Any, *, written: str | None = None) -> Any:
    """A value for the setting `key`; a whole number will do where any number is meant.

    Args:
        written: how the value was written, for the error; None is as Python writes it.

    Raises:
        ConfigError: it is of another kind than the default, not finite or too large.
    """
    kind = cast("type[object]", type(default))
    got = repr(value if written is None else written)[:100]
    if kind is float and type(value) is int and abs(value) <= LARGEST:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{key} must be {KINDS.get(kind, kind.__name__)} like its default {default!r}, got {got}")
    items: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    for item in items:
        why = why_not_plain(item)
        if why is not None:
            raise ConfigError(f"{key} {why}, got {got}; its default is {default!r}")
    return cast("object", value)


def why_not_plain(value: object) -> str | None:
    """What a single value of a setting has to be, as words that go on from its name; None if it is that."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if abs(value) <= LARGEST else f"must be from {-LARGEST} to {LARGEST}"
    if isinstance(value, float):
        return None if math.isfinite(value) else "must be finite"
    if isinstance(value, str):
        return None if _is_unicode(value) else "must be text without halves of characters"
    return "must be plain: numbers, text, true, false or lists of these"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _closest(key: str, defaults: Mapping[str, Any]) -> str:
    if not defaults:
        return "it has none at all: add it to [tool.umbel.config]"
    near = difflib.get_close_matches(key, defaults, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(defaults)}"
