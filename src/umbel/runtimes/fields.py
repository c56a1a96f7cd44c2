"""`Fields`: named values out of a tree that somebody else wrote, each looked at before it is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast, final

from umbel.arrays import Arrays
from umbel.errors import ProtocolError

MAX_TEXT = 2_000
Leaf = TypeVar("Leaf")


@final
@dataclass(frozen=True)
class Fields:
    """The fields of a `what`; reading one that is missing or of another kind is a `ProtocolError` that names it."""

    what: str
    tree: Mapping[str, Any]

    def _get(self, name: str) -> Any:
        if name not in self.tree:
            raise ProtocolError(f"{self.what} lacks {name!r}; do both sides run the same Umbel?")
        return self.tree[name]

    def _odd(self, name: str, wanted: str) -> ProtocolError:
        return ProtocolError(f"{name!r} in {self.what} is no {wanted}; do both sides run the same Umbel?")

    def text(self, name: str, most: int = MAX_TEXT) -> str:
        value = self._get(name)
        if not isinstance(value, str) or len(value) > most:
            raise self._odd(name, f"text of at most {most} characters")
        return value

    def one_of(self, name: str, allowed: Sequence[str]) -> Any:
        value = self._get(name)
        if not isinstance(value, str) or value not in allowed:
            raise self._odd(name, f"one of {', '.join(allowed)}")
        return value

    def whole(self, name: str, bits: int = 32) -> int:
        value = self._get(name)
        if type(value) is not int or not 0 <= value < 2**bits:
            raise self._odd(name, f"whole number from 0 to 2^{bits}")
        return value

    def number(self, name: str) -> float:
        value = self._get(name)
        if not (type(value) is float or (type(value) is int and abs(value) < 2**1023)):
            raise self._odd(name, "number")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._odd(name, "true or false")
        return value

    def digest(self, name: str) -> str:
        return self._digest(name, self._get(name))

    def _digest(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise self._odd(name, "digest of 64 small hexadecimal digits")
        return value

    def digests(self, name: str) -> dict[str, str]:
        return {key: self._digest(name, value) for key, value in self.table(name).items()}

    def table(self, name: str) -> dict[str, Any]:
        value = self._get(name)
        if not isinstance(value, dict):
            raise self._odd(name, "table")
        return cast("dict[str, Any]", value)

    def plain(self, name: str) -> dict[str, Any]:
        """A table without arrays in it."""
        value = self.table(name)
        if not _is_plain(value):
            raise self._odd(name, "table of plain data")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[Any]", value)):
            raise self._odd(name, "list of texts")
        return tuple(cast("list[str]", value))

    def arrays(self, name: str) -> Arrays:
        return self.leaf(name, Arrays)

    def leaf(self, name: str, kind: type[Leaf]) -> Leaf:
        """Named arrays, in the form that this reader gave them."""
        value = self._get(name)
        if not isinstance(value, kind):
            raise self._odd(name, "set of named arrays")
        return value


def _is_plain(value: Any) -> bool:
    """Whether plain data are all there is: trees may have arrays as leaves."""
    if isinstance(value, dict):
        return all(map(_is_plain, cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return all(map(_is_plain, cast("list[Any]", value)))
    return value is None or isinstance(value, (bool, int, float, str, bytes))
