"""Which clients of a simulation match the run's condition."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

import umbel
from umbel.coordinators import Everyone, ServerConfig, Some, read_where
from umbel.coordinators.where import checked_attributes
from umbel.errors import ConfigError
from umbel.runtimes.turn import sentence

AttributesFn: TypeAlias = "Callable[[str], Mapping[str, Any]]"


def versions() -> dict[str, str]:
    """The versions that a node tells of itself."""
    return {"umbel": umbel.__version__, "python": sys.version.split()[0], "numpy": np.__version__}


def population(config: ServerConfig, num_clients: int, attributes: AttributesFn | None) -> Everyone | Some:
    """Whom a simulation can ask.

    Args:
        attributes: what each client says of itself, by its id: "0", "1", …

    Raises:
        ConfigError: there is a condition and nothing to hold it against, or a client's attributes are none.
    """
    if not config.where:
        return Everyone(num_clients)
    if attributes is None:
        raise ConfigError(
            f"where={config.where!r} speaks of what clients say of themselves, and simulated clients say nothing; give "
            "attributes=lambda client_id: {...}, or leave where out"
        )
    where, own = read_where(config.where), {f"{name}_version": text for name, text in versions().items()}
    numbers = range(num_clients)
    return Some([n for n in numbers if where.matches({**_of(attributes, str(n)), **own, "name": str(n)})])


def _of(attributes: AttributesFn, client: str) -> dict[str, Any]:
    try:
        return checked_attributes(attributes(client))
    except Exception as error:
        raise ConfigError(f"attributes of client {client}: {sentence(error)}") from error
