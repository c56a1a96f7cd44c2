"""What a selector of somebody's own may give: ids of clients that exist, each once. Umbel's own are not looked at."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from umbel.coordinators.population import Everyone, Population, Some
from umbel.coordinators.selection.experience import Experience
from umbel.coordinators.selection.selector import Selector
from umbel.errors import ConfigError, UmbelError
from umbel.message import Receipt, require


def drawn(
    selector: Selector, population: Population, key: int, count: int, experience: Experience, excluded: Container[str]
) -> list[str]:
    """What `selector` draws.

    Raises:
        ConfigError: it is one of somebody's own, and raises or gives what is no client; names both.
    """
    if _is_ours(selector):
        return selector.draw(population, key, count, experience, excluded)
    try:
        found: Any = selector.draw(population, key, count, experience, excluded)
    except UmbelError:
        raise
    except Exception as error:
        raise _failed(selector, "draw", error) from error
    _check(selector, found, population, excluded)
    return list(found)


def learned(selector: Selector, experience: Experience, round: int, receipts: Sequence[Receipt]) -> Experience:
    """What `selector` knows after a round.

    Raises:
        ConfigError: it is one of somebody's own, and raises or gives no `Experience`.
    """
    if _is_ours(selector):
        return selector.learn(experience, round, receipts)
    try:
        found: Any = selector.learn(experience, round, receipts)
    except UmbelError:
        raise
    except Exception as error:
        raise _failed(selector, "learn", error) from error
    require(
        isinstance(found, Experience),
        f"{_named(selector)}.learn returned a {type(found).__name__}; return an Experience, as experience.after(…) is",
    )
    return found


def _check(selector: Selector, found: Any, population: Population, excluded: Container[str]) -> None:
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        kind: str = type(found).__name__  # pyright: ignore[reportUnknownArgumentType]
        raise ConfigError(
            f"{_named(selector)}.draw returned a {kind}; return a list of ids such as population.sample's"
        )
    # Who is registered and away is known, and fails by itself.
    known: Container[object] = getattr(population, "everyone", population)
    seen = set[str]()
    client: object
    for client in found:  # pyright: ignore[reportUnknownVariableType]
        said = f"{_named(selector)}.draw gave the client {client!r}"
        require(isinstance(client, str), f"{said}; ids are texts, so give {str(client)!r} if that was meant")  # pyright: ignore[reportUnknownArgumentType]
        assert isinstance(client, str)
        require(
            _exists(client, known), f"{said}, which does not exist; draw from population.sample or population.listed"
        )
        require(client not in seen, f"{said} twice; give each client once")
        require(client not in excluded, f"{said}, which is in excluded: it cannot be asked now; leave those out")
        seen.add(client)


def _exists(client: str, known: Container[object]) -> bool:
    # "07" would be another client with the data of "7".
    return client in known and not (isinstance(known, (Everyone, Some)) and str(int(client)) != client)


def _is_ours(selector: Selector) -> bool:
    """Whether it and what it draws with are Umbel's, which give nothing else, and look at large populations."""
    if not type(selector).__module__.startswith("umbel."):
        return False
    inner = [getattr(selector, field.name) for field in fields(selector)] if is_dataclass(selector) else []
    return all(_is_ours(one) for one in inner if isinstance(one, Selector))


def _failed(selector: Selector, method: str, error: Exception) -> ConfigError:
    said = f"{_named(selector)}.{method} raised {type(error).__name__}: {error}"
    return ConfigError(f"{said}; it must work with any population, so try it by itself on Everyone(10)")


def _named(selector: Selector) -> str:
    return f"selector={type(selector).__name__}"
