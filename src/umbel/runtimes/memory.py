"""Client states as bytes: what lies in stores and travels to workers."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from umbel.errors import UpdateRefused, WireError
from umbel.message import ClientState
from umbel.wire import pack, unpack

EMPTY = ClientState()


def write_memory(client: str, state: ClientState) -> bytes | None:
    """The bytes of a state; None if there is nothing in it.

    Raises:
        UpdateRefused: the user put something into `context.state` that is neither array nor plain data.
    """
    if not state.user and not state.strategy and state.private is None:
        return None
    tree: dict[str, Any] = {"user": {k: _leaf(v) for k, v in state.user.items()}, "strategy": dict(state.strategy)}
    if state.private is not None:
        tree["private"] = state.private
    try:
        return pack("client-state", tree)
    except (WireError, ValueError) as error:
        raise UpdateRefused(client, f"context.state cannot be kept: {error}") from None


def read_memory(data: bytes) -> ClientState:
    """The state in `data`; arrays are private copies."""
    tree = unpack("client-state", data)
    return ClientState(tree["user"], tree["strategy"], tree.get("private"))


def _leaf(value: Any) -> Any:
    """A torch tensor or NumPy scalar as an array; everything else as it is."""
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    is_scalar = isinstance(value, np.generic)  # pyright: ignore[reportUnknownVariableType]
    return np.asarray(cast("Any", value)) if is_scalar else value
