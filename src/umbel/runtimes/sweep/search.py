"""Which points a sweep looks at: all of a grid, random ones, or what a search library asks for."""

from __future__ import annotations

import importlib
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, final

from umbel.errors import ConfigError
from umbel.randomness import derive, generator
from umbel.runtimes.sweep.space import Point, Range

Checked = Mapping[str, tuple[Any, ...] | Range]
SEARCHES = ("grid", "random", "optuna")


class Search(ABC):
    """Names one point after the other; what it names depends on its seed and on what it was told alone."""

    count: int

    @abstractmethod
    def ask(self, trial: int) -> Point:
        """The point of the trial, 0 to `count - 1`, in this order."""

    @abstractmethod
    def tell(self, value: float | None) -> None:
        """Hear what the last point gave, or None if it failed."""

    def prunes(self, step: int, value: float) -> bool:
        """Hear what the last point gave after `step` rounds; says whether that is enough of it."""
        return False

    def tell_pruned(self) -> None:
        """Hear that the last point was broken off."""
        self.tell(None)


@final
class Grid(Search):
    """Every combination, the last name varying fastest."""

    def __init__(self, space: Checked) -> None:
        endless = [name for name, values in space.items() if isinstance(values, Range)]
        if endless:
            raise ConfigError(f"{endless[0]} is a Range, which no grid can try out; give a list, or trials=50")
        self._names = list(space)
        self._points = itertools.product(*(values for values in space.values() if isinstance(values, tuple)))
        self.count = math.prod(len(values) for values in space.values() if isinstance(values, tuple))

    def ask(self, trial: int) -> Point:
        return dict(zip(self._names, next(self._points), strict=True))

    def tell(self, value: float | None) -> None:
        del value  # it tries all of them whatever they give


@final
class Random(Search):
    """Points drawn independently; each depends on (seed, trial, name) alone."""

    def __init__(self, space: Checked, count: int, seed: int) -> None:
        self._space, self.count, self._seed = space, count, seed

    def ask(self, trial: int) -> Point:
        return {name: self._draw(values, trial, name) for name, values in self._space.items()}

    def _draw(self, values: tuple[Any, ...] | Range, trial: int, name: str) -> Any:
        rng = generator(derive(self._seed, "sweep", trial, name))
        return values.draw(rng) if isinstance(values, Range) else values[int(rng.integers(len(values)))]

    def tell(self, value: float | None) -> None:
        del value  # draws do not depend on each other


def search_for(
    space: Checked,
    search: str | None,
    trials: int | None,
    seed: int,
    less_is_better: bool,
    pruner: Any = None,
) -> Search:
    """The search that the arguments of `sweep` name.

    Raises:
        ConfigError: they do not go together, or need a package that is not installed.
    """
    chosen = search or ("grid" if trials is None else "optuna")
    if chosen not in SEARCHES:
        raise ConfigError(f"search must be one of {', '.join(SEARCHES)}, got {search!r}")
    if type(seed) is not int:
        raise ConfigError(f"search_seed must be a whole number, got {seed!r}; try 0")
    if trials is not None and (type(trials) is not int or trials < 1):
        raise ConfigError(f"trials must be a whole number of at least 1, got {trials!r}; try trials=50")
    if pruner is not None and chosen != "optuna":
        raise ConfigError(
            f"pruner={pruner!r} compares the points of an Optuna search, got search={chosen!r}; add trials=50, or "
            "leave pruner out"
        )
    if chosen == "grid":
        if trials is not None:
            raise ConfigError(f"a grid tries every point, got trials={trials}; leave one out: search='grid' or trials")
        return Grid(space)
    if trials is None:
        raise ConfigError(f"search={chosen!r} needs to know how many points to try, got trials=None; try trials=50")
    if chosen == "random":
        return Random(space, trials, seed)
    try:
        importlib.import_module("optuna")
    except ImportError:
        raise ConfigError(
            "trials needs optuna, which is not installed; try: pip install 'umbel[tune]', or search='random'"
        ) from None
    from umbel.runtimes.sweep.optuna import Optuna

    return Optuna(space, trials, seed, less_is_better, pruner)
