"""Where a `JaxClient` computes, by the name of a device."""

from __future__ import annotations

from typing import Any, cast

import jax

from umbel.clients.jax.tree import Leaves
from umbel.errors import ConfigError

BACKENDS = {"cuda": "gpu"}


def place_of(name: str) -> Any:
    """The device of a name such as "cpu", "cuda:1" or "tpu"; None is where JAX puts everything anyway.

    Raises:
        ConfigError: JAX has no such device.
    """
    kind, _, number = name.partition(":")
    devices: Any = cast("Any", jax).devices
    found: list[Any]
    try:
        found = devices(BACKENDS.get(kind, kind))
    except RuntimeError:
        found = []
    if (not number.isdecimal() and number) or int(number or 0) >= len(found):
        everything: list[Any] = [*devices(), *devices("cpu")]
        known = ", ".join(sorted({f"{one.platform}:{one.id}" for one in everything}))
        raise ConfigError(f'device must be one that JAX has ({known}), got {name!r}; try device="cpu"')
    device = found[int(number or 0)]
    return None if device == devices()[0] else device


def placed(leaves: Leaves, place: Any) -> Leaves:
    """Arrays on a device, where all that is computed with them stays."""
    return leaves if place is None else jax.device_put(leaves, place)
