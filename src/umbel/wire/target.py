"""`Target`: where a message's bytes are put."""

from __future__ import annotations

from typing import Any, Protocol


class Target(Protocol):
    """Takes a message's bytes as they come, from the first to the last: memory, or something that writes them down."""

    def __len__(self) -> int: ...

    def __setitem__(self, place: slice, data: Any, /) -> None: ...
