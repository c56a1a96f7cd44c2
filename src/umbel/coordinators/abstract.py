"""What every coordinator does: says whom to ask, takes note of answers, counts steps and knows when the run is over."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, final

from umbel.cohort import Receipts
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.population import Population, cohort_key
from umbel.coordinators.selection import Experience, Uniform
from umbel.coordinators.selection.own import drawn, learned
from umbel.errors import ConfigError
from umbel.message import Receipt

Reason: TypeAlias = Literal["finished", "target", "patience", "stopped", "interrupted"]


@final
@dataclass(frozen=True)
class Phase:
    """Clients to ask. `attempt` counts the tries of this round; `ends_at_s` is when it closes at the latest."""

    round: int
    kind: Literal["fit", "evaluate"]
    clients: tuple[str, ...]
    attempt: int = 0
    ends_at_s: float = math.inf


@final
@dataclass(frozen=True)
class Ended:
    """The run is over."""

    reason: Reason


@final
@dataclass(frozen=True)
class Decision:
    """What follows from a receipt: whether to fold it, whom to ask instead, whether the round closes."""

    accept: bool
    ask: tuple[str, ...] = ()
    close: bool = False


class Coordinator(ABC):
    """The part that all coordinators share: counting rounds, drawing who evaluates, stopping.

    Args:
        config: see `ServerConfig`; its seed must be set.
        population: whom there is to ask.
    """

    overlaps: ClassVar[bool] = False
    """Whether turns outlive the round in which they began."""
    mixes: bool = False
    """Whether a stale update moves the model towards the client's, and not by as much as the client's moved."""

    def __init__(self, config: ServerConfig, population: Population) -> None:
        if config.seed is None:
            raise ConfigError("the coordinator needs a seed; draw one and write it down")
        self.config = config
        self.seed = config.seed
        self.population = population
        config.selector.check(population)
        self.experience = Experience()
        self.round = 0
        self.best: float | None = None
        self.best_round = 0
        self.without_improvement = 0

    @property
    @abstractmethod
    def least_available(self) -> int:
        """How many clients there have to be before a round."""

    @abstractmethod
    def begin(self, now_s: float = 0.0) -> Phase | Ended:
        """The next round's fit phase, or the end."""

    @abstractmethod
    def receipt(self, receipt: Receipt) -> Decision:
        """Take note of an answer."""

    def receipts(self, receipts: Receipts, order: Mapping[str, int]) -> tuple[str, ...]:
        """Take note of the answers of clients that were played together; returns whom to ask instead.

        Args:
            receipts: one for each client in `order`.
            order: client → its place in the cohort, by which answers count.
        """
        instead: list[str] = []
        for receipt in sorted(receipts, key=lambda receipt: order[receipt.client]):
            instead += self.receipt(receipt).ask
        return tuple(instead)

    @abstractmethod
    def fill(self) -> tuple[str, ...]:
        """Whom to ask now, because places became free; called before time goes on."""

    @property
    @abstractmethod
    def excluded(self) -> Container[str]:
        """Clients that cannot be asked before the next step."""

    @abstractmethod
    def scale(self, version: int) -> float:
        """The factor on an update that began from the model of round `version`."""

    @property
    @abstractmethod
    def looks_at_s(self) -> float:
        """When to call `tick` next."""

    @abstractmethod
    def tick(self, now_s: float) -> bool:
        """Whether the open round has to close because its time is up."""

    @abstractmethod
    def close(self, *, examples: float = 1.0) -> Literal["step", "retry"]:
        """Close the open round: take the step, or try again."""

    @abstractmethod
    def mark(self) -> Any:
        """What `reset` needs to go back to this moment of the open round."""

    @abstractmethod
    def reset(self, mark: Any) -> None:
        """Go back to where `mark` was taken."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """What this kind of coordinator keeps between rounds, as plain data."""

    @abstractmethod
    def restore_own(self, state: Mapping[str, Any]) -> None:
        """Take up what `own_state` gave."""

    def drawn(self, key: int, count: int, excluded: Container[str] = ()) -> list[str]:
        """Up to `count` clients to train, drawn by the plan's selector."""
        return drawn(self.config.selector, self.population, key, count, self.experience, excluded)

    def draws(self) -> bool:
        """Whether the selector can draw anybody of those that are there and not excluded."""
        key = cohort_key(self.seed, self.round + 1, 0, "fit")
        return isinstance(self.config.selector, Uniform) or bool(self.drawn(key, 1, self.excluded))

    def learn(self, receipts: Sequence[Receipt]) -> str | None:
        """Let the selector learn from the round that was just closed.

        Args:
            receipts: of all that answered or failed, in any order.

        Returns:
            a sentence if it can learn nothing from them.
        """
        selector = self.config.selector
        if selector.hears is None:
            return None
        self.experience = learned(selector, self.experience, self.round + 1, receipts)
        done = [receipt for receipt in receipts if receipt.verdict == "done"]
        if not done or any(receipt.loss is not None for receipt in done):
            return None
        name = type(selector).__name__
        return f"{name} learns nothing: no client reports {selector.hears!r} among the metrics of fit; return it there"

    def evaluation(self, round: int, *, last: bool = False) -> Phase | None:
        """Whom to ask to evaluate the model after `round`, if anyone."""
        config = self.config
        due = round % config.evaluate_every == 0 or round >= config.num_rounds or last
        if not due or config.fraction_evaluate == 0:
            return None
        count = count_of(config.fraction_evaluate, config.min_evaluate_clients, self.population.size)
        clients = self.population.sample(cohort_key(self.seed, round, 0, "evaluate"), count)
        return Phase(round, "evaluate", tuple(clients)) if clients else None

    def finish(self, metrics: Mapping[str, float]) -> Ended | None:
        """Count the round as done; says if the run ends with it.

        Args:
            metrics: what was measured after the round; `monitor` is looked up here, and may be missing.
        """
        self.count()
        return self.judge(self.round, metrics)

    def count(self) -> None:
        """Count a round as done, before it is known how good it was."""
        self.round += 1

    def judge(self, round: int, metrics: Mapping[str, float]) -> Ended | None:
        """Take note of what was measured after a round that was counted; says if the run ends with it.

        Args:
            metrics: as for `finish`.
        """
        config, value = self.config, metrics.get(self.config.monitor)
        if value is not None and math.isfinite(value):
            sign = 1 if config.less_is_better else -1
            if self.best is None or sign * value < sign * self.best:
                self.best, self.best_round, self.without_improvement = value, round, 0
            else:
                self.without_improvement += 1
            if config.target is not None and sign * value <= sign * config.target:
                return Ended("target")
        if config.patience is not None and self.without_improvement >= config.patience:
            return Ended("patience")
        return Ended("finished") if round >= config.num_rounds else None

    def state(self) -> dict[str, Any]:
        """Plain data from which `restore` continues."""
        return {
            "round": self.round,
            "best": self.best,
            "best_round": self.best_round,
            "without_improvement": self.without_improvement,
            **({} if self.config.selector.hears is None else {"selection": self.experience.plain()}),
            **self.own_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.round, self.best = state["round"], state["best"]
        self.best_round, self.without_improvement = state["best_round"], state["without_improvement"]
        if "selection" in state:
            self.experience = Experience.of(state["selection"])
        self.restore_own(state)


def count_of(fraction: float, least: int, available: int) -> int:
    """How many of the available clients a share of them is, with at least `least`."""
    # A product such as 0.1 · 30 lies a hair above 3; rounding to nine digits first keeps it at 3.
    return min(available, max(int(round(fraction * available, 9)), least, 1))
