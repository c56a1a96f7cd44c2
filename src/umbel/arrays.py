"""A model is one buffer with a schema.

The buffer is the one of `umbel.schema`, in memory, on the wire and on disk: nothing needs another form.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from umbel.dtypes import DTYPES, Array, Float64, code_of, narrow, widen
from umbel.errors import ArraysError
from umbel.schema import ArraySpec, Role, Schema, Segment, Slice, header_specs, header_table

_BLOCK = 2**16
ArraysLike: TypeAlias = "Arrays | Mapping[str, Any] | Sequence[Any]"


@final
class Arrays(Mapping[str, Array]):
    """Named arrays in one buffer. Views are read-only unless the object was made with `writable=True`.

    Example:
        >>> model = Arrays.of({"w": np.zeros((2, 3), np.float32), "b": np.ones(3, np.float32)})
        >>> model["b"]
        array([1., 1., 1.], dtype=float32)
        >>> Arrays.from_buffer(model.buffer) == model
        True
    """

    __slots__ = ("_digest", "_views", "buffer", "data", "native", "schema", "writable")

    def __init__(self, schema: Schema, buffer: NDArray[np.uint8], *, writable: bool = False) -> None:
        if buffer.nbytes != schema.nbytes:
            raise ArraysError(f"the buffer has {buffer.nbytes} bytes, its schema needs {schema.nbytes}")
        self.schema = schema
        self.buffer = buffer
        self.data = buffer[len(schema.header) :]
        self.writable = writable
        self.native: Any = None
        """An adapter's own view of these arrays, made once for all clients that are handed them."""
        self._views: dict[str, Array] | None = None
        self._digest: str | None = None

    @classmethod
    def empty(cls, schema: Schema) -> Arrays:
        """Writable arrays with undefined content."""
        buffer = np.empty(schema.nbytes, np.uint8)
        buffer[: len(schema.header)] = schema.header_array
        return cls(schema, buffer, writable=True)

    @classmethod
    def zeros(cls, schema: Schema) -> Arrays:
        result = cls.empty(schema)
        result.data[:] = 0
        return result

    @classmethod
    def of(cls, values: ArraysLike, *, roles: Mapping[str, Role] | None = None) -> Arrays:
        """Arrays from a mapping, or from a sequence whose members get the names "0", "1", …

        Args:
            values: name → array; scalars become 0-d arrays. An `Arrays` is returned as it is unless roles differ.
            roles: name → role; names left out are `trained`.

        Raises:
            ArraysError: nothing was given, a name is not text, or a dtype cannot be part of a model.
        """
        if isinstance(values, Arrays) and roles is None:
            return values
        items = named(values)
        wanted: Mapping[str, Role] = roles or {}
        arrays = {name: _plain(name, value) for name, value in items.items()}
        specs = [
            ArraySpec(name, code_of(array.dtype), array.shape, wanted.get(name, "trained"))
            for name, array in arrays.items()
        ]
        result = cls.empty(Schema(specs))
        result.fill(arrays)
        return result.frozen()

    @classmethod
    def from_buffer(cls, buffer: bytes | bytearray | memoryview | NDArray[np.uint8]) -> Arrays:
        """Read-only views on `buffer`, which is not copied.

        Raises:
            ArraysError: the buffer is not one whole safetensors image in Umbel's layout.
        """
        view = buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer).cast("B")
        schema, start = Schema.parse(view)
        if start + schema.data_bytes != len(view):
            raise ArraysError(f"the buffer has {len(view)} bytes, its header describes {start + schema.data_bytes}")
        if bytes(view[:start]) != schema.header:
            raise ArraysError("the header is not in Umbel's form (padding or order differ)")
        return cls(schema, np.frombuffer(view, np.uint8))

    def fill(self, values: Mapping[str, Array]) -> None:
        """Copy `values` into these (writable) arrays."""
        for name, view in self.views.items():
            source = values[name]
            if view.dtype == source.dtype:
                view[...] = source
            else:
                view[...] = source.view(np.uint16) if self.schema.by_name[name].dtype == "BF16" else source

    @property
    def views(self) -> dict[str, Array]:
        if self._views is None:
            data = self.data
            if not self.writable:
                data = data.view()
                data.flags.writeable = False
            self._views = {
                name: data[start:stop].view(dtype).reshape(shape)
                for name, start, stop, dtype, shape in self.schema.places
            }
        return self._views

    def __getitem__(self, name: str) -> Array:
        return self.views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.schema.by_name)

    def __len__(self) -> int:
        return len(self.schema)

    def __eq__(self, other: object) -> bool:
        """Same schema and same bits."""
        return isinstance(other, Arrays) and self.schema == other.schema and bool((self.data == other.data).all())

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Arrays({', '.join(f'{s.name}: {s.dtype}{list(s.shape)}' for s in self.schema.specs)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Arrays.from_buffer, (self.buffer.tobytes(),))

    @property
    def nbytes(self) -> int:
        return self.schema.nbytes

    @property
    def digest(self) -> str:
        """SHA-256 of the whole buffer, as 64 hexadecimal digits."""
        if self.writable:
            return hashlib.sha256(self.buffer.data).hexdigest()
        if self._digest is None:
            self._digest = hashlib.sha256(self.buffer.data).hexdigest()
        return self._digest

    def flat(self, segment: Segment) -> Array:
        """The elements of one segment as a flat view."""
        dtype = DTYPES[segment.dtype]
        part = self.data[segment.offset_bytes : segment.offset_bytes + segment.size * dtype.itemsize]
        return part.view(dtype)

    def frozen(self) -> Arrays:
        """The same buffer behind read-only views."""
        return Arrays(self.schema, self.buffer)

    def copy(self) -> Arrays:
        """A private, writable copy."""
        result = Arrays.empty(self.schema)
        result.data[:] = self.data
        return result

    def select(self, schema: Schema) -> Arrays:
        """A copy that holds only the arrays of `schema`."""
        if schema == self.schema:
            return self
        result = Arrays.empty(schema)
        result.fill(self)
        return result.frozen()

    def cut(self, piece: Sequence[Slice]) -> Arrays:
        """A copy of what is here of a piece; see `Schema.cut`."""
        result = Arrays.empty(self.schema.cut(piece))
        for part in piece:
            if part.name in self.schema.by_name:
                result.views[part.name][...] = self.views[part.name].reshape(-1)[part.start : part.stop]
        return result.frozen()

    def paste(self, piece: Sequence[Slice], values: Arrays) -> None:
        """Write what `cut` gave back into these (writable) arrays."""
        for part in piece:
            if part.name in values.schema.by_name:
                self.views[part.name].reshape(-1)[part.start : part.stop] = values.views[part.name]

    def float64(self, name: str) -> Float64:
        """A float64 copy of one array."""
        return widen(self[name], self.schema.by_name[name].dtype)

    def with_roles(self, roles: Mapping[str, Role]) -> Arrays:
        """The same values with some roles changed; unknown names are an error."""
        for name in roles:
            if name not in self.schema.by_name:
                raise ArraysError(f"roles name {name!r}, which is not an array; there are {', '.join(self)}")
        old = {spec.name: spec.role for spec in self.schema.specs}
        return Arrays.of(dict(self), roles=cast("dict[str, Role]", {**old, **roles}))

    def norm(self) -> float:
        """The Euclidean norm over all elements, computed in float64."""
        return float(np.sqrt(sum(float(np.square(widen(self.flat(s), s.dtype)).sum()) for s in self.schema.segments)))

    def save(self, path: str) -> None:
        """Write the buffer as a `.safetensors` file."""
        with open(path, "wb") as file:
            file.write(self.buffer.data)

    @classmethod
    def load(cls, path: str) -> Arrays:
        """Arrays from any `.safetensors` file whose dtypes a model can have, Umbel's or not.

        Raises:
            ArraysError: the file is not safetensors, or an array lies outside it.
        """
        with open(path, "rb") as file:
            data = np.frombuffer(file.read(), np.uint8)
        length = int.from_bytes(data[:8].tobytes(), "little")
        if len(data) < 8 or length > len(data) - 8:
            raise ArraysError(f"{path} is not a safetensors file")
        table = header_table(bytes(data[8 : 8 + length]))
        result = cls.empty(Schema(header_specs(table)))
        for spec in result.schema.specs:
            begin, end = table[spec.name]["data_offsets"]
            part = data[8 + length + begin : 8 + length + end]
            if part.nbytes != spec.nbytes:
                raise ArraysError(
                    f"array {spec.name!r} of {path} has {part.nbytes} bytes, its shape needs {spec.nbytes}"
                )
            result.views[spec.name].reshape(-1).view(np.uint8)[:] = part
        return result.frozen()


@final
class Vector:
    """The float64 image of arrays: `values` is flat, in buffer order. Sums and server steps happen here."""

    __slots__ = ("schema", "values")

    def __init__(self, schema: Schema, values: Float64) -> None:
        if values.shape != (schema.size,):
            raise ArraysError(f"a vector of shape {values.shape} does not fit {schema}")
        self.schema = schema
        self.values = values

    @classmethod
    def zeros(cls, schema: Schema) -> Vector:
        return cls(schema, np.zeros(schema.size))

    @classmethod
    def of(cls, arrays: Arrays) -> Vector:
        result = cls(arrays.schema, np.empty(arrays.schema.size))
        for segment in arrays.schema.segments:
            part = result.values[segment.start : segment.start + segment.size]
            part[...] = widen(arrays.flat(segment), segment.dtype)
        return result

    def cut(self, piece: Sequence[Slice]) -> Vector:
        """A copy of what is here of a piece; see `Schema.cut`."""
        result = Vector.zeros(self.schema.cut(piece))
        for part in piece:
            if part.name in self.schema.by_name:
                start = self.schema.positions[part.name]
                result[part.name][...] = self.values[start + part.start : start + part.stop]
        return result

    def __getitem__(self, name: str) -> Float64:
        start = self.schema.positions[name]
        spec = self.schema.by_name[name]
        return self.values[start : start + spec.size].reshape(spec.shape)

    def part(self, role: Role) -> list[Float64]:
        """Flat views on the elements of one role."""
        return [self.values[s.start : s.start + s.size] for s in self.schema.segments if s.role == role]

    def scaled(self, factor: float) -> Self:
        return type(self)(self.schema, self.values * factor)

    def arrays(self, schema: Schema | None = None) -> Arrays:
        """These values rounded once to the dtypes of `schema` (default: their own)."""
        target = schema or self.schema
        result = Arrays.empty(target)
        for spec in target.specs:
            result.views[spec.name][...] = narrow(self[spec.name], spec.dtype)
        return result.frozen()


def named(values: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """A mapping as it is; a sequence with the names "0", "1", …"""
    if isinstance(values, Mapping):
        for name in values:
            if not isinstance(name, str) or not name or name == "__metadata__":  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArraysError(f"array name {name!r} is not allowed; names are non-empty text")
        return dict(values)
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArraysError(f"expected a list or mapping of arrays, got {type(values).__name__}")
    return {str(index): value for index, value in enumerate(values)}


def is_numbered(names: Sequence[str]) -> bool:
    """Whether the names are exactly "0", "1", … as those of a list are."""
    return all(name == str(index) for index, name in enumerate(names))


def _plain(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind in "OUSVMmc" and array.dtype.name != "bfloat16":
        raise ArraysError(
            f"array {name!r} has dtype {array.dtype}; allowed are floats, integers and bools; "
            "is it a ragged list or text?"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def difference(new: Mapping[str, Array], start: Arrays) -> Arrays:
    """`new - start` on the arrays that travel, in the schema `start.schema.delta`.

    Floats keep their dtype; integers are subtracted in int64.
    """
    result = Arrays.empty(start.schema.delta)
    if isinstance(new, Arrays) and new.schema == start.schema == result.schema:
        for segment in result.schema.segments:
            if segment.dtype != "BF16":
                np.subtract(new.flat(segment), start.flat(segment), out=result.flat(segment))
            else:
                result.flat(segment)[...] = narrow(
                    widen(new.flat(segment), "BF16") - widen(start.flat(segment), "BF16"), "BF16"
                )
        return result.frozen()
    for spec in result.schema.specs:
        out, a, b = result.views[spec.name], new[spec.name], start.views[spec.name]
        if spec.dtype == "I64":
            np.subtract(a.astype(np.int64), b.astype(np.int64), out=out)
        elif spec.dtype == "BF16":
            out[...] = narrow(widen(a, "BF16") - widen(b, "BF16"), "BF16")
        else:
            np.subtract(a, b, out=out)
    return result.frozen()


def moved(params: Arrays, change: Vector) -> Arrays:
    """`params + change`, added in float64 and rounded once. Arrays without a change stay as they are.

    Block by block, so that a large model needs no float64 image of itself.
    """
    result = Arrays.empty(params.schema)
    for spec in params.schema.specs:
        old, new = params.views[spec.name].reshape(-1), result.views[spec.name].reshape(-1)
        if spec.name not in change.schema.by_name:
            new[...] = old
            continue
        step = change[spec.name].reshape(-1)
        for start in range(0, spec.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            new[part] = narrow(widen(old[part], spec.dtype) + step[part], spec.dtype)
    return result.frozen()


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether `name` fits any shell-style pattern; a pattern that starts with "!" takes names out again."""
    chosen = all(pattern.startswith("!") for pattern in patterns)
    for pattern in patterns:
        if pattern.startswith("!"):
            chosen = chosen and not fnmatch.fnmatchcase(name, pattern[1:])
        else:
            chosen = chosen or fnmatch.fnmatchcase(name, pattern)
    return chosen
