"""The messages of `flower.proto`: what a server says is written, what a client says is read."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import NotSupported, ProtocolError
from umbel.message import Scalar
from umbel.runtimes.flower import npy
from umbel.wire.protobuf import Bytes, fields, varint

MAX_MESSAGE_BYTES = 2**31 - 1
"""What gRPC and protobuf take, and the limit that those clients set."""
MAX_TEXT = 500
MAX_ENTRY_BYTES = 2**20
TENSOR_TYPE = "numpy.ndarray"
ASKS = {"reconnect": 1, "get_properties": 2, "get_parameters": 3, "fit": 4, "evaluate": 5}
ANSWERS = {1: "disconnect", 2: "get_properties", 3: "get_parameters", 4: "fit", 5: "evaluate"}
REASONS = {1: "reconnect", 2: "power disconnected", 3: "wifi unavailable", 4: "acknowledged"}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")
Parts: TypeAlias = "Sequence[Bytes]"


@final
@dataclass(frozen=True)
class Reply:
    """What a client says. `kind` is "disconnect", "get_properties", "get_parameters", "fit" or "evaluate".

    Attributes:
        code: 0, or which method the client lacks.
        values: properties or metrics.
    """

    kind: str
    code: int = 0
    text: str = ""
    tensors: Sequence[memoryview] = ()
    tensor_type: str = ""
    loss: float = 0.0
    num_examples: int = 0
    values: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])
    reason: int = 0

    def arrays(self) -> list[NDArray[Any]]:
        """The tensors as arrays.

        Raises:
            WireError: they are none.
        """
        if self.tensor_type not in (TENSOR_TYPE, ""):
            raise ProtocolError(
                f"tensors of the type {self.tensor_type[:80]!r} came; {TENSOR_TYPE!r} is what is read here"
            )
        return [npy.read(tensor) for tensor in self.tensors]


def write(kind: str, config: Mapping[str, Any], arrays: Iterable[NDArray[Any]] | None = None) -> bytes:
    """The `ServerMessage` that asks for `kind`; with `arrays` (those of a fit or evaluation) also empty ones are there.

    Raises:
        NotSupported: a value of `config` cannot travel, or the message would be too large.
    """
    body: list[Bytes] = []
    if arrays is not None:
        tensors = [part for array in arrays for part in _inside(1, npy.write(array))]
        body += _inside(1, [*tensors, *_inside(2, [TENSOR_TYPE.encode()])])
    for name, value in config.items():
        body += _inside(1 if arrays is None else 2, [*_inside(1, [name.encode()]), *_inside(2, [_scalar(name, value)])])
    parts = _inside(ASKS[kind], body)
    size = sum(len(part) for part in parts)
    if size > MAX_MESSAGE_BYTES:
        raise NotSupported(
            f"the model is a message of {size} bytes, Flower clients take at most {MAX_MESSAGE_BYTES}; send less of it "
            "(shared=...), in half precision, or let this client join as an Umbel node"
        )
    return b"".join(parts)


def _inside(number: int, parts: Parts) -> list[Bytes]:
    """A field that holds bytes, text or a message."""
    return [varint(number << 3 | _LENGTH) + varint(sum(len(part) for part in parts)), *parts]


def _scalar(name: str, given: object) -> bytes:
    value: object = cast("Any", given).item() if isinstance(given, np.generic) else given
    if isinstance(value, bool):
        return varint(13 << 3 | _VARINT) + varint(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return varint(8 << 3 | _VARINT) + varint((value << 1) ^ (value >> 63))
    if isinstance(value, int) and 0 <= value < 2**64:
        return varint(6 << 3 | _VARINT) + varint(value)
    if isinstance(value, float):
        return varint(1 << 3 | _FIXED64) + _DOUBLE.pack(value)
    if isinstance(value, str):
        return b"".join(_inside(14, [value.encode()]))
    if isinstance(value, bytes):
        return b"".join(_inside(15, [value]))
    raise NotSupported(
        f"config {name!r} is {str(value)[:80]} ({type(value).__name__}); to Flower clients only bool, int of 64 bits, "
        "float, str and bytes travel"
    )


def read(data: Bytes) -> Reply:
    """The reply in a `ClientMessage`, with views on its bytes.

    Raises:
        ProtocolError: it is none.
    """
    found: tuple[str, memoryview] | None = None
    for number, wire_type, value in fields(memoryview(data)):
        if number in ANSWERS:
            found = ANSWERS[number], _bytes(wire_type, value)
    if found is None:
        raise ProtocolError("the message is of no kind that is known here")
    kind, body = found
    read_field = {"disconnect": _disconnect, "get_properties": _properties, "evaluate": _evaluate}.get(kind, _fit)
    told: dict[str, Any] = {"tensors": [], "values": {}}
    for number, wire_type, value in fields(body):
        if number == 1 and kind != "disconnect":
            _status(_bytes(wire_type, value), told)
        else:
            read_field(number, wire_type, value, told)
    return Reply(kind, **told)


def _disconnect(number: int, wire_type: int, value: Any, told: dict[str, Any]) -> None:
    if number == 1:
        told["reason"] = _whole(wire_type, value)


def _properties(number: int, wire_type: int, value: Any, told: dict[str, Any]) -> None:
    if number == 2:
        _entry(_bytes(wire_type, value), told)


def _fit(number: int, wire_type: int, value: Any, told: dict[str, Any]) -> None:
    """A `FitRes`, or a `GetParametersRes`, which is its beginning."""
    if number == 2:
        for inner, inner_type, content in fields(_bytes(wire_type, value)):
            if inner == 1:
                told["tensors"].append(_bytes(inner_type, content))
            elif inner == 2:
                told["tensor_type"] = _text(inner_type, content)
    else:
        _evaluate(number, wire_type, value, told)


def _evaluate(number: int, wire_type: int, value: Any, told: dict[str, Any]) -> None:
    if number == 2:
        told["loss"] = _FLOAT.unpack(_fixed(wire_type, value, _FIXED32))[0]
    elif number == 3:
        told["num_examples"] = _whole(wire_type, value)
    elif number == 4:
        _entry(_bytes(wire_type, value), told)


def _status(data: memoryview, told: dict[str, Any]) -> None:
    for number, wire_type, value in fields(data):
        if number == 1:
            told["code"] = _whole(wire_type, value)
        elif number == 2:
            told["text"] = _text(wire_type, value)[:MAX_TEXT]


def _entry(data: memoryview, told: dict[str, Any]) -> None:
    """One pair of a map; a scalar of a kind that is not known is left out."""
    if len(data) > MAX_ENTRY_BYTES:
        raise ProtocolError(f"a metric or property has {len(data)} bytes, at most {MAX_ENTRY_BYTES} are read")
    name, scalar = "", memoryview(b"")
    for number, wire_type, value in fields(data):
        if number == 1:
            name = _text(wire_type, value)[:MAX_TEXT]
        elif number == 2:
            scalar = _bytes(wire_type, value)
    for number, wire_type, value in fields(scalar):
        if number == 1:
            told["values"][name] = _DOUBLE.unpack(_fixed(wire_type, value, _FIXED64))[0]
        elif number in (6, 8, 13):
            whole = _unsigned(wire_type, value)
            told["values"][name] = {6: whole, 8: (whole >> 1) ^ -(whole & 1), 13: bool(whole)}[number]
        elif number == 14:
            told["values"][name] = _text(wire_type, value)
        elif number == 15:
            told["values"][name] = bytes(_bytes(wire_type, value))


def _bytes(wire_type: int, value: Any) -> memoryview:
    return _fixed(wire_type, value, _LENGTH)


def _fixed(wire_type: int, value: Any, wanted: int) -> memoryview:
    if wire_type != wanted:
        raise ProtocolError(f"a field has the wire type {wire_type}, {wanted} is right")
    return value


def _unsigned(wire_type: int, value: Any) -> int:
    if wire_type != _VARINT:
        raise ProtocolError(f"a field has the wire type {wire_type}, {_VARINT} is right")
    return value


def _whole(wire_type: int, value: Any) -> int:
    """An int64, whose negative values come as large ones."""
    number = _unsigned(wire_type, value)
    return number - 2**64 if number >= 2**63 else number


def _text(wire_type: int, value: Any) -> str:
    try:
        return str(_bytes(wire_type, value), "utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("a text is not UTF-8") from None
