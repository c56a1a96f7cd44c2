"""The abstract `Selector`: whom to ask, of those that are there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from typing import ClassVar

from umbel.coordinators.population import Population
from umbel.coordinators.selection.experience import Experience
from umbel.message import Receipt, require
from umbel.randomness import derive

MOST_REMEMBERED = 1_000_000


class Selector(ABC):
    """How cohorts are drawn, as a frozen value: `ServerConfig(selector=...)`.

    One of your own is a frozen dataclass with `draw`; if it learns it has `hears` and `learn`, too. It does nothing but
    compute: what it has learned is an `Experience`, which the coordinator keeps and every checkpoint has in it.
    """

    streams: ClassVar[bool] = False
    """Whether it can draw one client at a time, for asynchronous runs."""

    @property
    def hears(self) -> str | None:
        """The metric of `fit` that it learns from; None learns nothing, and then nothing is kept of any client."""
        return None

    def check(self, population: Population) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuse what cannot work with this population, before the run starts.

        Raises:
            ConfigError: says why.
        """

    @abstractmethod
    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        """Up to `count` different clients that are there, the most wanted first.

        Args:
            key: all randomness; equal arguments give equal cohorts.
            experience: what is known after `experience.round` rounds.
            excluded: who cannot be asked.
        """

    def learn(self, experience: Experience, round: int, receipts: Sequence[Receipt]) -> Experience:
        """What is known after a round in which these answered or failed. Their order must not matter."""
        return experience


def secretly(secret: bytes, key: int) -> int:
    """A key that depends on `secret`, too, if there is one."""
    return derive(secret, key) if secret else key


def check_learner(name: str, inner: object, metric: object, remembers: object) -> None:
    """Refuse what selectors that learn cannot take.

    Args:
        name: of the argument `inner`, the selector that draws where nothing is known.

    Raises:
        ConfigError: says which argument.
    """
    require(
        isinstance(inner, Selector) and inner.hears is None,
        f"{name} must be a selector that does not learn, such as Uniform() or Weighted(...), got {inner!r}",
    )
    require(isinstance(metric, str) and metric != "", f"metric must be the name of a metric, got {metric!r}")
    require(
        isinstance(remembers, int) and not isinstance(remembers, bool) and 1 <= remembers <= MOST_REMEMBERED,
        f"remembers must be from 1 to {MOST_REMEMBERED:,}, got {remembers!r}",
    )
