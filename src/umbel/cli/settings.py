"""`--set key=value`: one setting from the command line, typed as TOML and checked against the app's default."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from umbel.errors import ConfigError

KINDS: dict[type[object], str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
}


def changed(defaults: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The app's settings with `changes` ("key=value") put in; of two for one key the later counts.

    Raises:
        ConfigError: a change has no "=", its key is not one of the app's, or its value is of another kind.

    Example:
        >>> changed({"lr": 0.1, "num_rounds": 3}, ["lr=1"])
        {'lr': 1.0, 'num_rounds': 3}
    """
    settings = dict(defaults)
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, got {change!r}; try --set lr=0.1")
        if key not in defaults:
            raise ConfigError(f"the app has no setting {key!r}; {_closest(key, defaults)}")
        settings[key] = _value(key, text.strip(), defaults[key])
    return settings


def _closest(key: str, defaults: Mapping[str, Any]) -> str:
    if not defaults:
        return "it has none at all: add it to [tool.umbel.config]"
    near = difflib.get_close_matches(key, defaults, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(defaults)}"


def _value(key: str, text: str, default: Any) -> Any:
    value = _parsed(text)
    kind = cast("type[object]", type(default))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    if kind is str and not isinstance(value, list):
        return text
    raise ConfigError(f"{key} must be {KINDS.get(kind, kind.__name__)} like its default {default!r}, got {text!r}")


def _parsed(text: str) -> Any:
    """A TOML value; what is none (such as a bare word) is text."""
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if list(table) == ["value"] else text
