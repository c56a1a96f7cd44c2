"""Which clients of a simulation match the run's condition."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
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


def population(
    config: ServerConfig, num_clients: int, attributes: AttributesFn | None, without: Collection[str] = ()
) -> Everyone | Some:
    """Whom a simulation can ask.

    Args:
        attributes: what each client says of itself, by its id: "0", "1", …
        without: ids of clients that are not there.

    Raises:
        ConfigError: there is a condition and nothing to hold it against, or a client's attributes are none.
    """
    there = [number for number in range(num_clients) if str(number) not in without] if without else range(num_clients)
    if not config.where:
        return Some(there) if without else Everyone(num_clients)
    if attributes is None:
        raise ConfigError(
            f"where={config.where!r} speaks of what clients say of themselves, and simulated clients say nothing; give "
            "attributes=lambda client_id: {...}, or leave where out"
        )
    where, own = read_where(config.where), {f"{name}_version": text for name, text in versions().items()}
    return Some([n for n in there if where.matches({**_of(attributes, str(n)), **own, "name": str(n)})])


def _of(attributes: AttributesFn, client: str) -> dict[str, Any]:
    try:
        return checked_attributes(attributes(client))
    except Exception as error:
        raise ConfigError(f"attributes of client {client}: {sentence(error)}") from error


def checked_without(without: Collection[str], num_clients: int, before: Collection[str] = ()) -> tuple[str, ...]:
    """The ids of clients that are to be left out, in the order of their numbers.

    Args:
        before: those that were left out before, and stay so.

    Raises:
        ConfigError: one is the id of no client.
    """
    if isinstance(without, str):
        raise ConfigError(f"without is a list of clients' ids such as ['3'], got {without!r}")
    everyone = Everyone(num_clients)
    for client in without:
        if client not in everyone:
            raise ConfigError(f"there is no client {client!r} to leave out; the ids are '0' to '{num_clients - 1}'")
    return tuple(sorted({*before, *without}, key=int))
