"""Which clients of a simulation match the run's condition."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import numpy as np

import umbel
from umbel.coordinators import AllBut, Everyone, Matching, Registered, ServerConfig, Some, read_where
from umbel.coordinators.where import checked_attributes
from umbel.errors import ConfigError
from umbel.randomness import derive
from umbel.runtimes.turn import sentence

AttributesFn: TypeAlias = "Callable[[str], Mapping[str, Any]]"

LOOKED_AT_EACH = 1_000_000
"""Of more clients than these, those that match are found by drawing: to look at each takes minutes."""
RAREST = 10
"""Fewer matches among those drawn for an estimate tell nothing."""


def versions() -> dict[str, str]:
    """The versions that a node tells of itself."""
    return {"umbel": umbel.__version__, "python": sys.version.split()[0], "numpy": np.__version__}


def population(
    config: ServerConfig, num_clients: int, attributes: AttributesFn | None, without: Collection[str] = ()
) -> Registered:
    """Whom a simulation can ask.

    Args:
        attributes: what each client says of itself, by its id: "0", "1", …
        without: ids of clients that are not there.

    Raises:
        ConfigError: there is a condition and nothing to hold it against, a client's attributes are none, or there are
            so many clients that matching ones cannot be found as often as they are wanted.
    """
    there = AllBut(num_clients, [int(client) for client in without]) if without else range(num_clients)
    everyone = Some(there) if without else Everyone(num_clients)
    if not config.where:
        return everyone
    if attributes is None:
        raise ConfigError(
            f"where={config.where!r} speaks of what clients say of themselves, and simulated clients say nothing; give "
            "attributes=lambda client_id: {...}, or leave where out"
        )
    where, own = read_where(config.where), {f"{name}_version": text for name, text in versions().items()}

    def matches(client: str) -> bool:
        return where.matches({**_of(attributes, client), **own, "name": client})

    if num_clients <= LOOKED_AT_EACH:
        return Some([number for number in there if matches(str(number))])
    return _drawn_from(everyone, matches, config)


def _drawn_from(everyone: Everyone | Some, matches: Callable[[str], bool], config: ServerConfig) -> Matching:
    for name in ("fraction_fit", "fraction_evaluate"):
        share = getattr(config, name)
        if share > 0.5:
            raise ConfigError(
                f"{name}={share:g} asks for nearly all that match where={config.where!r}, and of more than "
                f"{LOOKED_AT_EACH:,} clients nobody looks at each; set {name} to 0.5 at most, or have fewer clients"
            )
    found = Matching(everyone, matches, derive(config.seed or 0, "matching"))
    if found.found < RAREST:
        raise ConfigError(
            f"{found.found} of {found.looked:,} clients that were drawn match where={config.where!r}, too few to find "
            f"cohorts among {everyone.size:,}; take a condition that more of them match, or at most "
            f"{LOOKED_AT_EACH:,} clients, which are looked at one by one"
        )
    return found


def noted(asked: Registered, config: ServerConfig) -> list[str]:
    """That the number of those who match is not counted, if it is not."""
    if not isinstance(asked, Matching):
        return []
    return [
        f"about {asked.size:,} of {asked.everyone.size:,} clients match where={config.where!r}, as {asked.found:,} of "
        f"{asked.looked:,} that were drawn do; so many are not looked at one by one"
    ]


def check_counted(asked: Registered) -> None:
    """Refuse a number of clients that is an estimate, where a guarantee hangs on it.

    Raises:
        ConfigError: says so.
    """
    if isinstance(asked, Matching):
        raise ConfigError(
            f"privacy= counts on how many clients there are, and of more than {LOOKED_AT_EACH:,} those that match "
            "where= are estimated; leave where out, or have fewer clients"
        )


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
