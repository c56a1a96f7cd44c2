"""`Where`: a condition on clients, such as `gpu and region == 'eu'`. It is read, never run as code.

condition  = condition and condition | condition or condition | not condition | (condition) | name | true | false
           | a chain of comparisons: name == value, value < name <= value, name in ('a', 'b')
comparison = == != < <= > >= in, not in; always between a name and a value, or a list of values
value      = text in quotes, a number, true, false
"""

from __future__ import annotations

import ast
import keyword
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias, cast, final

from umbel.errors import ConfigError

Plain: TypeAlias = "bool | int | float | str"
MOST_CHARACTERS, DEEPEST, MOST_ATTRIBUTES, LONGEST_VALUE = 1000, 32, 64, 200
EXAMPLE = "gpu and region == 'eu'"
VERSIONS = ("umbel_version", "python_version", "numpy_version")
KNOWN = ("name", "federation", "address_family", *VERSIONS)
"""What the server knows by itself; no attribute can have one of these names."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# What programs write for a number that is none is read as one, too, so that it is refused and not taken for text.
_NUMBER = re.compile(r"[+-]?((\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?|(?i:nan|inf|infinity))")
_TRUTHS = {"true": True, "false": False}


@final
@dataclass(frozen=True)
class Where:
    """A condition that was read; `read_where` makes them."""

    text: str
    _tree: ast.expr = field(compare=False, repr=False)

    def matches(self, facts: Mapping[str, Plain]) -> bool:
        """Whether it holds for a client of which these facts are known.

        What is not known is absent: every comparison with it is false, and so is its bare name.
        """
        return _holds(self._tree, facts)


def read_where(text: str) -> Where:
    """Read a condition.

    Raises:
        ConfigError: it is none; says at which character.

    Example:
        >>> read_where("gpu and region == 'eu'").matches({"gpu": True, "region": "eu"})
        True
        >>> read_where("not memory_gb < 16").matches({})
        True
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f'where is a condition such as "{EXAMPLE}" or None, got {_short(text)}')
    if len(text) > MOST_CHARACTERS:
        raise _wrong(text, MOST_CHARACTERS, f"it goes on for {len(text)} characters, {MOST_CHARACTERS} are the most")
    odd = next((place for place, sign in enumerate(text) if sign == "\\" or not sign.isprintable()), None)
    if odd is not None:
        raise _wrong(text, odd, f"{text[odd]!r} is not allowed, it is one line without backslashes")
    lead = len(text) - len(text.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        # Where the text ends too early there is no offset.
        place = lead + error.offset - 1 if error.offset else len(text)
        raise _wrong(text, place, error.msg) from None
    except (ValueError, MemoryError, RecursionError, Warning) as error:
        raise _wrong(text, 0, f"it cannot be read ({error or type(error).__name__})") from None
    _check(text, lead, tree, 1)
    return Where(text, tree)


def checked_attributes(given: object) -> dict[str, Plain]:
    """What a client says of itself, as name → text, number, true or false.

    Raises:
        ConfigError: a name or a value is none, or there are too many.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"attributes are names and values such as region = 'eu', got {_short(given)}")
    found = cast("Mapping[Any, Any]", given)
    if len(found) > MOST_ATTRIBUTES:
        raise ConfigError(f"{len(found)} attributes are too many, at most {MOST_ATTRIBUTES} are allowed")
    for name, value in found.items():
        if not isinstance(name, str) or not _is_name(name):
            raise ConfigError(
                f"{_short(name)} cannot name an attribute; take a word of letters, digits and _ that conditions have "
                "no other use for, such as region"
            )
        if name in KNOWN:
            raise ConfigError(f"the attribute {name!r} is the server's to know; take another name, such as my_{name}")
        _check_value(name, value)
    return dict(found)


def read_attributes(words: Iterable[str]) -> dict[str, Plain]:
    """Attributes as a command line has them: `gpu=true`, `memory_gb=16`, `region=eu`.

    Raises:
        ConfigError: a word is none, or two give the same name.
    """
    found: dict[str, Plain] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"an attribute is NAME=VALUE, such as region=eu, got {_short(word)}")
        if name in found:
            raise ConfigError(f"the attribute {name!r} was given twice; drop one")
        found[name] = _plain(text)
    return checked_attributes(found)


def shown(attributes: Mapping[str, Plain]) -> str:
    """Attributes on one line, in the order of their names."""
    words = {True: "true", False: "false"}
    items = sorted(attributes.items())
    return ", ".join(f"{name}={words[value] if isinstance(value, bool) else value}" for name, value in items)


def _plain(text: str) -> Plain:
    if text in _TRUTHS:
        return _TRUTHS[text]
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _check_value(name: str, value: object) -> None:
    fine = isinstance(value, (bool, int, float)) and -math.inf < value < math.inf
    if isinstance(value, str):
        fine = len(value) <= LONGEST_VALUE and value.isprintable()
    if not fine:
        raise ConfigError(
            f"the attribute {name!r} is text of at most {LONGEST_VALUE} printable characters, a finite number, true or "
            f"false, got {_short(value)}"
        )


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not keyword.iskeyword(text) and text not in _TRUTHS


def _short(value: object) -> str:
    return repr(value)[:120]


def _wrong(text: str, place: int, why: str) -> ConfigError:
    return ConfigError(
        f"where={text[:MOST_CHARACTERS]!r} is no condition, at character {place + 1}: {why}; write one such as "
        f'where="{EXAMPLE}"'
    )


# Reading: every node that is not named here is refused.


def _check(text: str, lead: int, node: ast.expr, depth: int) -> None:
    def wrong(at: ast.expr, why: str) -> ConfigError:
        return _wrong(text, lead + len(text.strip().encode()[: at.col_offset].decode(errors="ignore")), why)

    if depth > DEEPEST:
        raise wrong(node, f"it is nested more than {DEEPEST} deep")
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check(text, lead, part, depth + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(text, lead, node.operand, depth + 1)
    elif isinstance(node, ast.Compare):
        for left, (sign, right) in _pairs(node):
            why = _why_not(left, sign, right)
            if why is not None:
                raise wrong(right if _is_thing(left) else left, why)
    elif isinstance(node, ast.Name):
        if not _is_thing(node):
            raise wrong(node, f"{node.id!r} cannot be a name")
    elif _value(node) is None:
        raise wrong(node, "a name, a comparison, and, or, not or (…) has to stand here")
    elif not isinstance(_value(node), bool):
        raise wrong(node, "a value alone says nothing; compare a name with it")


def _pairs(node: ast.Compare) -> Iterator[tuple[ast.expr, tuple[ast.cmpop, ast.expr]]]:
    for (left, right), sign in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
        yield left, (sign, right)


def _why_not(left: ast.expr, sign: ast.cmpop, right: ast.expr) -> str | None:
    if isinstance(sign, (ast.In, ast.NotIn)):
        if not isinstance(right, (ast.Tuple, ast.List)) or any(_value(item) is None for item in right.elts):
            return "after `in` a list of values has to stand, such as ('eu', 'us')"
        return None if _is_word(left) else "before `in` a name has to stand"
    if isinstance(sign, (ast.Is, ast.IsNot)):
        return "`is` is not known here, write =="
    for side in (left, right):
        if not _is_thing(side):
            return "a name has to be compared with text in quotes, a number, true or false"
    if _is_word(left) and _is_word(right):
        return "two names are compared; is one a text, which needs quotes?"
    return None if _is_word(left) or _is_word(right) else "two values are compared, one has to be a name"


def _is_thing(node: ast.expr) -> bool:
    return _is_word(node) or _value(node) is not None


def _is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and _is_name(node.id)


def _value(node: ast.expr) -> Plain | None:
    """The value that is written there; None if it is no value."""
    if isinstance(node, ast.Name):
        return _TRUTHS.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand) if isinstance(node.operand, ast.Constant) else None
        return -number if isinstance(number, (int, float)) and not isinstance(number, bool) else None
    value: object = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, (bool, int, str)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


# Deciding


def _holds(node: ast.expr, facts: Mapping[str, Plain]) -> bool:
    if isinstance(node, ast.BoolOp):
        parts = (_holds(part, facts) for part in node.values)
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.UnaryOp):
        return not _holds(node.operand, facts)
    if isinstance(node, ast.Compare):
        return all(_compares(left, sign, right, facts) for left, (sign, right) in _pairs(node))
    value = _value(node)
    return bool(facts.get(node.id) if value is None and isinstance(node, ast.Name) else value)


def _compares(left: ast.expr, sign: ast.cmpop, right: ast.expr, facts: Mapping[str, Plain]) -> bool:
    as_version = any(isinstance(side, ast.Name) and side.id in VERSIONS for side in (left, right))

    def known(node: ast.expr) -> tuple[Any, Any] | None:
        value = _value(node)
        if value is None and isinstance(node, ast.Name):
            value = facts.get(node.id)
        return None if value is None else _kept(value, as_version=as_version)

    mine = known(left)
    if mine is None:
        return False
    if isinstance(sign, (ast.In, ast.NotIn)):
        assert isinstance(right, (ast.Tuple, ast.List))
        return (mine in [known(item) for item in right.elts]) == isinstance(sign, ast.In)
    other = known(right)
    if other is None:
        return False
    if isinstance(sign, (ast.Eq, ast.NotEq)):
        return (mine == other) == isinstance(sign, ast.Eq)
    if mine[0] != other[0] or mine[0] == "truth":
        return False
    before, same = mine[1] < other[1], mine[1] == other[1]
    if isinstance(sign, (ast.Lt, ast.LtE)):
        return before or (same and isinstance(sign, ast.LtE))
    return not before and (not same or isinstance(sign, ast.GtE))


def _kept(value: Plain, *, as_version: bool) -> tuple[str, Any]:
    """A value with its kind: what is of two kinds is never equal, and never in an order."""
    if isinstance(value, bool):
        return "truth", value
    if isinstance(value, str) and as_version:
        return "version", [int(number) for number in re.findall(r"\d{1,9}", value)]
    return ("text", value) if isinstance(value, str) else ("number", value)
