"""Plain data as JSON, both ways: None, bool, int, float, text, bytes, lists and dicts with text keys.

Bytes and floats that JSON cannot hold become objects whose only key is "$bytes" or "$float".
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from umbel.errors import WireError

MAX_DEPTH = 32
_ODD_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
# What a character of JSON can cost once it is read, in bytes: a list, a dict, an item, an item's name. Measured on
# CPython's 64-bit builds, rounded up.
_COSTS = {b"[": 104, b"{": 104, b",": 64, b":": 104}


def to_json(value: Any, depth: int = 0) -> Any:
    """Plain data in the form that `json` writes.

    Raises:
        WireError: there is something else in it.
    """
    if depth > MAX_DEPTH:
        raise WireError(f"plain data nests deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(cast("int", value))
    if isinstance(value, (float, np.floating)):
        number = float(cast("float", value))
        return number if math.isfinite(number) else {"$float": str(number)}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, depth + 1) for item in cast("Sequence[Any]", value)]
    if isinstance(value, dict):
        return {_key(key): to_json(item, depth + 1) for key, item in cast("dict[Any, Any]", value).items()}
    raise WireError(
        f"{type(value).__name__} is not plain data; allowed are None, bool, int, float, text, bytes, lists and dicts"
    )


def _key(key: Any) -> str:
    if not isinstance(key, str) or key.startswith("$"):
        raise WireError(f"key {key!r} is not allowed; keys are text that does not start with '$'")
    return key


def written(value: Any) -> bytes:
    """JSON without blanks, in UTF-8.

    Raises:
        WireError: a text in it has no form in UTF-8.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise WireError(f"a text has half a surrogate pair in it, which is no text: {error.object[:80]!r}") from None


def read(text: bytes, budget_bytes: int | None = None) -> Any:
    """The value that JSON stands for.

    Args:
        budget_bytes: the most memory that the value may take; None trusts the text.

    Raises:
        ValueError: it is not JSON in UTF-8, or has more small parts than the budget allows.
    """
    if budget_bytes is not None and (cost := weigh(text)) > budget_bytes:
        raise ValueError(f"it would take up to {cost} bytes of memory, {budget_bytes} are allowed for it")
    return json.loads(str(text, "utf-8"), parse_constant=_no_constant)


def weigh(text: bytes) -> int:
    """The most memory, in bytes, that reading some JSON can take: a few characters can stand for a large object."""
    each = 3 if text.isascii() else 10
    return each * len(text) + sum(cost * text.count(mark) for mark, cost in _COSTS.items())


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def from_json(value: Any, depth: int = 0) -> Any:
    """Plain data from what `read` gave, which is used up.

    Raises:
        ValueError: it is not what `to_json` makes.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        items = cast("list[Any]", value)
        for place, item in enumerate(items):
            if isinstance(item, (str, list, dict)):
                items[place] = from_json(item, depth + 1)
        return items
    if isinstance(value, dict):
        return _dict(cast("dict[str, Any]", value), depth)
    return value


def _dict(table: dict[str, Any], depth: int) -> Any:
    for key in table:
        if key.startswith("$"):
            return _odd(table)
        _text(key)
    for key, item in table.items():
        if isinstance(item, (str, list, dict)):
            table[key] = from_json(item, depth + 1)
    return table


def _odd(table: Mapping[str, Any]) -> Any:
    ((key, value), *others) = table.items()
    if not others and key == "$bytes" and isinstance(value, str):
        return base64.b64decode(value, validate=True)
    if not others and key == "$float" and value in _ODD_FLOATS:
        return _ODD_FLOATS[value]
    raise ValueError(f"the object with the keys {list(table)[:5]} stands for nothing")


def _text(text: str) -> str:
    if not text.isascii():
        text.encode()  # half a surrogate pair, which JSON can escape, would trip whoever prints it
    return text
