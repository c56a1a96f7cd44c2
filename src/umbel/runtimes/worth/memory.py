"""`Memory`: what coalitions came to, kept in a file, so that valuing which broke off goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, final

from umbel.errors import StoreError
from umbel.runtimes.worth.game import Coalition

FIELDS = {"of", "clients", "metrics", "stuck", "digest"}


@final
class Memory:
    """Coalition → what was measured of it.

    Args:
        file: lines of JSON, to which lines are added; None keeps nothing.
        of: what the coalitions are of, as text: lines of anything else are not used.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(self, file: str | Path | None, of: str) -> None:
        self._file, self._of = None if file is None else Path(file), of
        self._found = dict[Coalition, dict[str, Any]]()
        if self._file is not None and self._file.exists():
            try:
                for line in self._file.read_text("utf-8").splitlines():
                    self._take(line)
            except (OSError, UnicodeDecodeError) as error:
                raise StoreError(f"{self._file} cannot be read ({error}); remove it, or name another") from error

    def _take(self, line: str) -> None:
        """A line that was cut off by a crash is measured again."""
        try:
            entry: Any = json.loads(line)
        except ValueError:
            return
        if isinstance(entry, dict) and cast("dict[str, Any]", entry).keys() >= FIELDS:
            known = cast("dict[str, Any]", entry)
            if known.pop("of") == self._of:
                self._found[frozenset(known.pop("clients"))] = known

    def __contains__(self, coalition: Coalition) -> bool:
        return coalition in self._found

    def __getitem__(self, coalition: Coalition) -> dict[str, Any]:
        return self._found[coalition]

    def __iter__(self) -> Iterator[Coalition]:
        return iter(self._found)

    def drop(self) -> None:
        """Forget all of it, in the file, too."""
        self._found.clear()
        if self._file is not None:
            try:
                self._file.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"{self._file} cannot be removed: {error.strerror}; name another file") from error

    def keep(self, coalition: Coalition, found: dict[str, Any]) -> dict[str, Any]:
        """Remember what was found, which is returned."""
        self._found[coalition] = found
        if self._file is not None:
            try:
                # What it says is about people's data, as the store beside it.
                descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                with os.fdopen(descriptor, "a", encoding="utf-8") as out:
                    out.write(json.dumps({"of": self._of, "clients": sorted(coalition), **found}) + "\n")
            except OSError as error:
                raise StoreError(f"{self._file} cannot be written: {error.strerror}; name another file") from error
        return found
