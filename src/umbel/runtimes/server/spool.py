"""Updates on disk instead of in memory, in a form that nobody but this process can read.

Each lies in a file without a name, encrypted with a key of its own that is in this process's memory only. At a round's
end they are read side by side, piece by piece, and reduced: a server needs memory for one piece of one update, whatever
the model's size and however many updates there are, and any reducer that works element by element can be used.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.errors import ArraysError, NotSupported, ProtocolError, StoreFull, WireError
from umbel.message import Group, check_values, fits
from umbel.reducers import Accumulator, Reduced, Reducer
from umbel.runtimes.fields import Fields
from umbel.runtimes.mail import HEADER_BYTES, Answer, answer_in
from umbel.runtimes.room import reserve
from umbel.runtimes.stepping import PIECE
from umbel.schema import Schema, Slice
from umbel.wire.frame import outline
from umbel.wire.records import tree_in

READ_BYTES = 4 * 2**20
AES_BLOCK = 16


@final
class Sheet:
    """The bytes of one message, written as they come and read again in any order.

    Args:
        folder: on which disk; the file has no name there.

    Raises:
        StoreFull: the disk has no room for so many bytes.
        NotSupported: the package `cryptography` is not installed.
    """

    def __init__(self, folder: Path, nbytes: int) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        except ImportError:
            raise NotSupported(
                "a spool encrypts what it writes and needs the package cryptography: pip install 'umbel[identity]'"
            ) from None
        self._algorithm, self._mode = algorithms.AES(os.urandom(32)), modes.CTR
        self._cipher: Any = Cipher
        self.nbytes = nbytes
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                reserve(file.fileno(), nbytes)
                self._file = os.dup(file.fileno())
        except OSError as error:
            raise StoreFull(f"no room to spool an update of {nbytes} bytes in {folder}: {error.strerror}") from error
        weakref.finalize(self, os.close, self._file)

    @classmethod
    def of(cls, folder: Path, data: Any) -> Sheet:
        """A sheet of what is in memory: what is small comes that way."""
        sheet = cls(folder, len(data))
        sheet[0 : len(data)] = data
        return sheet

    def __len__(self) -> int:
        return self.nbytes

    def _crypt(self, start: int, data: Any) -> bytes:
        """Encrypt or decrypt what lies at `start`: in counter mode they are the same."""
        skipped = start % AES_BLOCK
        counter = (start // AES_BLOCK).to_bytes(16, "big")
        stream = self._cipher(self._algorithm, self._mode(counter)).encryptor()
        if skipped:
            stream.update(bytes(skipped))
        return stream.update(data)

    def __setitem__(self, place: slice, data: Any) -> None:
        os.pwrite(self._file, self._crypt(place.start, data), place.start)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from one place up to another."""
        return self._crypt(start, os.pread(self._file, stop - start, start))

    def sha256(self, start: int, stop: int) -> bytes:
        whole = hashlib.sha256()
        for at in range(start, stop, READ_BYTES):
            whole.update(self.read(at, min(stop, at + READ_BYTES)))
        return whole.digest()


@final
class SheetArrays:
    """Named arrays in a sheet: their schema is known, their values are read when a piece is asked for."""

    def __init__(self, sheet: Sheet, place: tuple[int, int]) -> None:
        start, size = place
        length = int.from_bytes(sheet.read(start, start + min(8, size)), "little")
        if length > size - 8:
            raise ArraysError(f"the header claims {length} bytes, the buffer has {size - 8}")
        head = sheet.read(start, start + 8 + length)
        self.schema, begin = Schema.parse(memoryview(head))
        if begin + self.schema.data_bytes != size or head != self.schema.header:
            raise ArraysError("the header is not in Umbel's form, or the buffer not as long as it says")
        self._sheet, self._begin = sheet, start + begin

    def cut(self, piece: Sequence[Slice]) -> Arrays:
        """The arrays of a piece, as `Arrays.cut`."""
        result = Arrays.empty(self.schema.cut(piece))
        for part in piece:
            spec = self.schema.by_name.get(part.name)
            if spec is not None:
                width = spec.nbytes // max(spec.size, 1)
                first = self._begin + self.schema.offsets[part.name]
                data = self._sheet.read(first + width * part.start, first + width * part.stop)
                result.views[part.name].view(np.uint8)[...] = np.frombuffer(data, np.uint8)
        return result.frozen()

    def whole(self) -> Arrays:
        result = Arrays.empty(self.schema)
        for piece in self.schema.slices(PIECE):
            result.paste(piece, self.cut(piece))
        return result.frozen()


@final
class SheetGroup:
    """One group of a spooled update."""

    def __init__(self, arrays: SheetArrays, weight: float) -> None:
        self.arrays, self.weight = arrays, weight


def read_sheet(sheet: Sheet) -> tuple[Answer, dict[str, SheetGroup]]:
    """The answer in a sheet, without its update's groups, and these.

    Raises:
        ProtocolError: it is none.
    """
    try:
        kind, body, places = outline(
            sheet.read, len(sheet), lambda: sheet.sha256(0, len(sheet) - 32), 3 * READ_BYTES + HEADER_BYTES
        )
        if kind != "answer":
            raise ProtocolError(f"expected a frame of kind 'answer', got {kind!r}")
        tree = tree_in(kind, body, places, lambda place, named: _leaf(sheet, place, named))
    except WireError as error:
        raise ProtocolError(str(error)) from None
    answer = answer_in(tree, groups=False)
    if answer.update is None:
        return answer, {}
    fields, groups = Fields("an answer's groups", tree["groups"]), dict[str, SheetGroup]()
    for name in fields.tree:
        group = Fields(f"the group {name!r} of an answer", fields.table(name))
        groups[name] = SheetGroup(group.leaf("arrays", SheetArrays), group.number("weight"))
    return answer, groups


def _leaf(sheet: Sheet, place: tuple[int, int], named: bool) -> SheetArrays:
    if not named:
        raise TypeError("an answer has no single arrays")
    return SheetArrays(sheet, place)


def validate_sheet(client: str, groups: Mapping[str, SheetGroup], schema: Mapping[str, Schema]) -> None:
    """As `umbel.message.validate`.

    Raises:
        UpdateRefused: as there.
    """
    fits(client, {name: (group.arrays.schema, group.weight) for name, group in groups.items()}, schema)
    for group in groups.values():
        for piece in group.arrays.schema.slices(PIECE):
            check_values(client, group.arrays.cut(piece), group.weight)


@final
class Spooled(Accumulator):
    """A round's updates on disk, reduced piece by piece once they are all there.

    Raises:
        NotSupported: the groups' arrays cannot be read side by side.
    """

    def __init__(self, reducer: Reducer, schema: Mapping[str, Schema]) -> None:
        leading = max(schema.values(), key=lambda expected: expected.size)
        for name, expected in schema.items():
            if not _side_by_side(leading, expected):
                raise NotSupported(
                    f"the arrays of the group {name!r} lie in another order than the model's, so they cannot be "
                    "spooled; run without a spool"
                )
        self._reducer, self._schema, self._leading = reducer, dict(schema), leading
        self._updates: list[Mapping[str, SheetGroup]] = []

    def fold_sheet(self, groups: Mapping[str, SheetGroup]) -> None:
        """Take in one validated update."""
        self._updates.append(groups)

    def fold(self, groups: Mapping[str, Group]) -> None:
        raise NotSupported("a spool takes what lies on disk")

    def merge(self, other: Accumulator) -> None:
        assert isinstance(other, Spooled)
        self._updates += other._updates

    def cut(self, piece: Sequence[Slice]) -> dict[str, Reduced]:
        there = {part.name for part in piece}
        pieces = {
            name: expected if there.isdisjoint(expected.by_name) else expected.cut(piece)
            for name, expected in self._schema.items()
        }
        inner = self._reducer.start(pieces)
        for groups in self._updates:
            inner.fold(
                {
                    name: Group(
                        group.arrays.whole()
                        if there.isdisjoint(group.arrays.schema.by_name)
                        else group.arrays.cut(piece),
                        group.weight,
                    )
                    for name, group in groups.items()
                }
            )
        return inner.result()

    def result(self) -> dict[str, Reduced]:
        found: dict[str, Reduced] = {}
        totals = {name: Vector.zeros(expected) for name, expected in self._schema.items()}
        for piece in self._leading.slices(PIECE):
            found = self.cut(piece)
            for name, reduced in found.items():
                for spec in reduced.total.schema.specs:
                    _paste(totals[name], spec.name, piece, reduced.total)
        return {name: Reduced(totals[name], reduced.weight, reduced.count) for name, reduced in found.items()}

    def export(self) -> tuple[Any, list[NDArray[np.uint8]]]:
        raise NotSupported("a spool stays in the process that has its keys")


def _paste(total: Vector, name: str, piece: Sequence[Slice], values: Vector) -> None:
    flat = total[name].reshape(-1)
    place = next((part for part in piece if part.name == name), None)
    if place is None:
        flat[:] = values[name].reshape(-1)
    else:
        flat[place.start : place.stop] = values[name]


def _side_by_side(leading: Schema, other: Schema) -> bool:
    """Whether pieces of the leading schema are pieces of the other one, too: then sums have the same blocks."""
    if not set(leading.by_name) & set(other.by_name):
        return True
    if not set(other.by_name) <= set(leading.by_name):
        return False
    mine = [[(p.name, p.start, p.stop) for p in piece if p.name in other.by_name] for piece in leading.slices(PIECE)]
    its = [[(p.name, p.start, p.stop) for p in piece] for piece in other.slices(PIECE)]
    return [piece for piece in mine if piece] == its
