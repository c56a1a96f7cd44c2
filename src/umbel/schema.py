"""What a model looks like: the names, dtypes, shapes and roles of its arrays, and where each lies in the buffer.

The buffer is a safetensors file image: eight bytes of header length, a JSON header, the data. Data start at a
multiple of 64 and the largest item size comes first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from umbel.dtypes import DTYPES, FLOATS
from umbel.errors import ArraysError

Role: TypeAlias = Literal["trained", "averaged", "frozen", "private"]
ROLES: tuple[Role, ...] = ("trained", "averaged", "frozen", "private")
ALIGNMENT = 64
MAX_HEADER_BYTES = 64 * 2**20


@final
@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a schema: `dtype` is a safetensors code such as "F32"."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: Role = "trained"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * DTYPES[self.dtype].itemsize


@final
@dataclass(frozen=True, slots=True)
class Segment:
    """A run of neighbouring arrays with one dtype and one role: `start` and `size` count elements of the schema."""

    dtype: str
    role: Role
    start: int
    size: int
    offset_bytes: int


@final
@dataclass(frozen=True, slots=True)
class Slice:
    """The elements `start` to `stop` of one array, flattened."""

    name: str
    start: int
    stop: int


@final
class Schema:
    """Names, dtypes, shapes and roles of a model's arrays, and where each lies in the buffer.

    Iteration follows the order in which the arrays were given; the buffer is ordered by item size.
    """

    def __init__(self, specs: Sequence[ArraySpec]) -> None:
        self.specs = tuple(specs)
        self.by_name = {spec.name: spec for spec in self.specs}
        if len(self.by_name) != len(self.specs):
            raise ArraysError("two arrays have the same name; names must be unique")
        self.layout = tuple(sorted(self.specs, key=lambda s: (-DTYPES[s.dtype].itemsize, s.dtype, ROLES.index(s.role))))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Schema) and self.specs == other.specs)

    def __hash__(self) -> int:
        return hash(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __iter__(self) -> Iterator[ArraySpec]:
        return iter(self.specs)

    def __repr__(self) -> str:
        return f"Schema({len(self)} arrays, {self.size} elements)"

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Byte offset of each array from the start of the data."""
        return self._running(lambda spec: spec.nbytes)

    @cached_property
    def places(self) -> tuple[tuple[str, int, int, np.dtype[Any], tuple[int, ...]], ...]:
        """(name, first byte, last byte, dtype, shape) of each array, from the start of the data."""
        return tuple(
            (s.name, self.offsets[s.name], self.offsets[s.name] + s.nbytes, DTYPES[s.dtype], s.shape)
            for s in self.specs
        )

    @cached_property
    def positions(self) -> dict[str, int]:
        """Element offset of each array in a flat vector of the whole schema."""
        return self._running(lambda spec: spec.size)

    def _running(self, length: Callable[[ArraySpec], int]) -> dict[str, int]:
        total, result = 0, dict[str, int]()
        for spec in self.layout:
            result[spec.name] = total
            total += length(spec)
        return result

    @cached_property
    def size(self) -> int:
        """Elements of all arrays together."""
        return sum(spec.size for spec in self.specs)

    @cached_property
    def data_bytes(self) -> int:
        return sum(spec.nbytes for spec in self.specs)

    @cached_property
    def header(self) -> bytes:
        """The safetensors header with its length, padded so that data start at a multiple of 64."""
        table: dict[str, Any] = {}
        roles = {spec.name: spec.role for spec in self.specs if spec.role != "trained"}
        if roles:
            table["__metadata__"] = {"umbel.roles": json.dumps(roles, ensure_ascii=False, separators=(",", ":"))}
        for spec in self.specs:
            start = self.offsets[spec.name]
            table[spec.name] = {
                "dtype": spec.dtype,
                "shape": list(spec.shape),
                "data_offsets": [start, start + spec.nbytes],
            }
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    @cached_property
    def header_array(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.header, np.uint8)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of a buffer of this schema: header and data."""
        return len(self.header) + self.data_bytes

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        found: list[Segment] = []
        position, offset = 0, 0
        for spec in self.layout:
            last = found[-1] if found else None
            if last is not None and (last.dtype, last.role) == (spec.dtype, spec.role):
                found[-1] = Segment(last.dtype, last.role, last.start, last.size + spec.size, last.offset_bytes)
            else:
                found.append(Segment(spec.dtype, spec.role, position, spec.size, offset))
            position += spec.size
            offset += spec.nbytes
        return tuple(found)

    def slices(self, most: int) -> Iterator[tuple[Slice, ...]]:
        """The whole schema in pieces of at most `most` elements, in buffer order.

        A piece lies in one segment and begins at a multiple of `most` in it, so that whoever works on blocks of
        elements, with `most` a multiple of them, has the same blocks in pieces as in one.
        """
        piece, left, before = list[Slice](), most, None
        for spec in self.layout:
            kind = (spec.dtype, spec.role)
            if piece and kind != before:
                yield tuple(piece)
                piece, left = [], most
            before, start = kind, 0
            while start < spec.size:
                stop = min(spec.size, start + left)
                piece.append(Slice(spec.name, start, stop))
                left -= stop - start
                start = stop
                if not left:
                    yield tuple(piece)
                    piece, left = [], most
        if piece:
            yield tuple(piece)

    def cut(self, piece: Sequence[Slice]) -> Schema:
        """The schema of what is here of a piece: one flat array for each slice."""
        return Schema(
            [
                ArraySpec(part.name, spec.dtype, (part.stop - part.start,), spec.role)
                for part in piece
                if (spec := self.by_name.get(part.name)) is not None
            ]
        )

    def select(self, keep: Callable[[ArraySpec], bool]) -> Schema:
        """The schema of the arrays for which `keep` is true."""
        return Schema([spec for spec in self.specs if keep(spec)])

    @cached_property
    def delta(self) -> Schema:
        """The schema of a change to these arrays: frozen and private ones stay out, integers become int64."""
        return Schema(
            [
                ArraySpec(spec.name, spec.dtype if spec.dtype in FLOATS else "I64", spec.shape, spec.role)
                for spec in self.specs
                if spec.role in ("trained", "averaged")
            ]
        )

    @cached_property
    def trained(self) -> Schema:
        """The schema of a change to the trained arrays alone."""
        return self.delta.select(lambda spec: spec.role == "trained")

    @cached_property
    def duals(self) -> Schema:
        """One value per trained float, in single precision or better: the form of control variates and duals."""
        return Schema(
            [
                ArraySpec(spec.name, "F64" if spec.dtype == "F64" else "F32", spec.shape)
                for spec in self.specs
                if spec.role == "trained" and spec.dtype in FLOATS
            ]
        )

    @classmethod
    def parse(cls, head: memoryview) -> tuple[Schema, int]:
        """The schema in the first bytes of a buffer and the byte at which its data start.

        Raises:
            ArraysError: the header is too long, is not JSON, or its offsets overlap, leave holes or do not fit.
        """
        if len(head) < 8:
            raise ArraysError(f"a buffer of {len(head)} bytes is too short for a header; it needs at least 8")
        length = int.from_bytes(head[:8], "little")
        if length > min(len(head) - 8, MAX_HEADER_BYTES):
            raise ArraysError(f"the header claims {length} bytes, the buffer has {len(head) - 8}")
        table = header_table(bytes(head[8 : 8 + length]))
        specs = header_specs(table)
        schema = cls(specs)
        for spec in specs:
            begin, end = table[spec.name]["data_offsets"]
            if begin != schema.offsets[spec.name] or end - begin != spec.nbytes:
                raise ArraysError("the arrays do not lie largest item size first without holes; use Arrays.load(path)")
        return schema, 8 + length


def header_table(text: bytes) -> dict[str, Any]:
    """The JSON object of a safetensors header."""
    try:
        table = json.loads(text)
    except ValueError as error:
        raise ArraysError(f"the header is not a safetensors header: {error}") from None
    if not isinstance(table, dict):
        raise ArraysError("the header is not a safetensors header: it is not an object")
    return cast("dict[str, Any]", table)


def header_specs(table: dict[str, Any]) -> list[ArraySpec]:
    """The arrays that a header describes, in its order."""
    try:
        roles = json.loads(table.get("__metadata__", {}).get("umbel.roles", "{}"))
        return [_spec(name, entry, roles) for name, entry in table.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArraysError(f"the header is not a safetensors header: {error}") from None


def _spec(name: str, entry: dict[str, Any], roles: dict[str, Any]) -> ArraySpec:
    role, shape, (begin, end) = roles.get(name, "trained"), entry["shape"], entry["data_offsets"]
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}")
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"unknown dtype {entry['dtype']!r}")
    if any(type(n) is not int or not 0 <= n < 2**48 for n in [*shape, begin, end]):
        raise ValueError(f"array {name!r} has sizes that are not whole numbers of at least 0")
    return ArraySpec(name, entry["dtype"], tuple(shape), role)
