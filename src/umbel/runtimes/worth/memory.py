"""`Memory`: what coalitions came to, kept in a file, so that valuing which broke off goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, cast, final

from umbel.errors import StoreError
from umbel.runtimes.worth.game import Coalition


@final
class Memory:
    """Coalition → what was measured of it, by the coalition's digest.

    Args:
        file: lines of JSON, to which lines are added; None keeps nothing.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(self, file: str | Path | None) -> None:
        self._file, self._found = None if file is None else Path(file), dict[str, dict[str, Any]]()
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
        if (
            isinstance(entry, dict)
            and {"coalition", "metrics", "stuck", "digest"} <= cast("dict[str, Any]", entry).keys()
        ):
            known = cast("dict[str, Any]", entry)
            self._found[str(known.pop("coalition"))] = known

    def __contains__(self, coalition: Coalition) -> bool:
        return digest_of(coalition) in self._found

    def __getitem__(self, coalition: Coalition) -> dict[str, Any]:
        return self._found[digest_of(coalition)]

    def keep(self, coalition: Coalition, found: dict[str, Any]) -> dict[str, Any]:
        """Remember what was found, which is returned."""
        name = digest_of(coalition)
        self._found[name] = found
        if self._file is not None:
            try:
                # What it says is about people's data, as the store beside it.
                descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                with os.fdopen(descriptor, "a", encoding="utf-8") as out:
                    out.write(json.dumps({"coalition": name, **found}) + "\n")
            except OSError as error:
                raise StoreError(f"{self._file} cannot be written: {error.strerror}; name another file") from error
        return found


def digest_of(coalition: Coalition) -> str:
    """The SHA-256 of the clients' names in their order."""
    return hashlib.sha256(json.dumps(sorted(coalition)).encode()).hexdigest()
