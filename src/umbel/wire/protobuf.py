"""The part of the protobuf encoding that packets use, so that the core needs no protobuf library.

A message is a frozen dataclass whose fields are declared with `number(n)`. Scalars are uint32/uint64/bool (varint),
double, string and bytes; a field that holds its type's zero is not written, as proto3 has it. Unknown fields are
skipped, of a field that comes twice the last one counts, and a number that is too long for its field loses its upper
bits, as with the other implementations.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias, TypeVar, cast, final

from umbel.errors import ProtocolError

Bytes: TypeAlias = "bytes | bytearray | memoryview"
Message = TypeVar("Message")
MAX_FIELDS = 10_000
MAX_TEXT_BYTES = 2**16
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_DOUBLE = struct.Struct("<d")


def number(field_number: int, default: Any, *, bits: int = 64) -> Any:
    """A dataclass field with its number in the `.proto`; its kind is the type of the default, an int has `bits`."""
    return field(default=default, metadata={"number": field_number, "bits": bits})


@final
@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    number: int
    kind: type[Any]
    mask: int


@cache
def fields_of(kind: type[Any]) -> tuple[_Field, ...]:
    """The declared fields of a message class, by number."""
    declared: Any = dataclasses.fields(kind)
    found = [
        _Field(f.name, f.metadata["number"], cast("Any", type(f.default)), 2 ** f.metadata["bits"] - 1)
        for f in declared
    ]
    return tuple(sorted(found, key=lambda f: f.number))


def varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte, lowest first."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(message: Any) -> list[Bytes]:
    """The bytes of a message in parts; the last bytes field, if it is large, is not copied."""
    head, tail = bytearray(), list[Bytes]()
    for spec in fields_of(cast("Any", type(message))):
        value = getattr(message, spec.name)
        if spec.kind is bytes:
            if len(value):
                head += varint(spec.number << 3 | _LENGTH) + varint(len(value))
                tail += [bytes(head), value]
                head = bytearray()
        elif spec.kind is str:
            if value:
                # Half a surrogate pair (in a file's name that an error quotes) must not keep a sentence from going out.
                text = value.encode("utf-8", "replace")
                head += varint(spec.number << 3 | _LENGTH) + varint(len(text)) + text
        elif spec.kind is float:
            image = _DOUBLE.pack(value)
            if image != bytes(8):
                head += varint(spec.number << 3 | _FIXED64) + image
        elif value:
            head += varint(spec.number << 3 | _VARINT) + varint(int(value))
    return [*tail, bytes(head)] if head else tail


def decode(kind: type[Message], data: memoryview) -> Message:
    """The message in `data`; bytes fields are views on it.

    Raises:
        ProtocolError: the bytes are no such message.
    """
    specs = {spec.number: spec for spec in fields_of(kind)}
    values: dict[str, Any] = {}
    for field_number, wire_type, value in fields(data):
        spec = specs.get(field_number)
        if spec is not None:
            values[spec.name] = _value(spec, wire_type, value)
    return cast("Any", kind)(**values)


def fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, raw value) of each field.

    Raises:
        ProtocolError: the bytes are cut or of an unknown wire type, or there are too many fields.
    """
    position, end = 0, len(data)
    for _ in range(MAX_FIELDS):
        if position == end:
            return
        tag, position = _read_varint(data, position)
        wire_type = tag & 7
        if tag < 8:
            raise ProtocolError("a packet has a field with the number 0")
        if wire_type == _VARINT:
            value, position = _read_varint(data, position)
            yield tag >> 3, wire_type, value
            continue
        if wire_type == _LENGTH:
            size, position = _read_varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ProtocolError(f"a packet has a field of the unknown wire type {wire_type}")
        if size > end - position:
            raise ProtocolError(f"a packet claims a field of {size} bytes where {end - position} are left")
        yield tag >> 3, wire_type, data[position : position + size]
        position += size
    raise ProtocolError(f"a packet has more than {MAX_FIELDS} fields")


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if position >= len(data):
            raise ProtocolError("a packet ends in the middle of a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, position
        shift += 7
    raise ProtocolError("a packet holds a number of more than 64 bits")


def _value(spec: _Field, wire_type: int, value: Any) -> Any:
    wanted = {bytes: _LENGTH, str: _LENGTH, float: _FIXED64}.get(spec.kind, _VARINT)
    if wire_type != wanted:
        raise ProtocolError(f"the field {spec.name!r} has wire type {wire_type}, {wanted} is right")
    if spec.kind is bytes:
        return value
    if spec.kind is str:
        if len(value) > MAX_TEXT_BYTES:
            raise ProtocolError(f"the field {spec.name!r} has {len(value)} bytes of text, at most {MAX_TEXT_BYTES}")
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            raise ProtocolError(f"the field {spec.name!r} is not UTF-8") from None
    if spec.kind is float:
        return _DOUBLE.unpack(value)[0]
    return bool(value) if spec.kind is bool else value & spec.mask
