"""`--set key=value`: one setting from the command line, typed as TOML and checked against the app's default."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from umbel.errors import ConfigError
from umbel.runtimes.settings import default_of, fitted


def changed(defaults: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The app's settings with `changes` ("key=value") put in; of two for one key the later counts.

    Raises:
        ConfigError: a change has no "=", its key is not one of the app's, or its value is of another kind
            or not finite.

    Example:
        >>> changed({"lr": 0.1, "num_rounds": 3}, ["lr=1"])
        {'lr': 1.0, 'num_rounds': 3}
    """
    settings = dict(defaults)
    for change in changes:
        key, text = divided(change)
        settings[key] = value_of(key, text, default_of(key, defaults))
    return settings


def divided(change: str) -> tuple[str, str]:
    """The key and the text of its value in "key=value".

    Raises:
        ConfigError: there is no "=", or nothing before it.
    """
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes key=value, got {change!r}; try --set lr=0.1")
    return key.strip(), text.strip()


def value_of(key: str, text: str, default: Any) -> Any:
    """The value that the text means for a setting with this default.

    Raises:
        ConfigError: it is of another kind than the default, or not finite.
    """
    value = _parsed(text)
    if isinstance(default, str) and not isinstance(value, (str, list)):
        value = text
    return fitted(key, value, default, written=text)


def _parsed(text: str) -> Any:
    """A TOML value; what is none (such as a bare word) is text."""
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if list(table) == ["value"] else text
