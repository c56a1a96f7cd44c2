"""Files of what a server signed: tree heads and receipts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from umbel.errors import ConfigError


def read_statement(file: Path) -> dict[str, Any]:
    """The tree head or receipt in a file.

    Raises:
        ConfigError: it is none.
    """
    try:
        found: object = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        found = None
    table = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    wanted = {"run": str, "size": int, "root": str, "head": str}
    if any(type(table.get(name)) is not kind for name, kind in wanted.items()):
        raise ConfigError(f"{file} holds no tree head and no receipt; both are JSON with {', '.join(wanted)}")
    return table
