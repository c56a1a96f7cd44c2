"""`Overlapping`: what coordinators share whose turns outlive the step in which they began."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, final

from umbel.coordinators.abstract import Coordinator, Decision, Ended, Phase
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.population import Population
from umbel.errors import ConfigError, NotSupported, TooFewClients
from umbel.message import Receipt, is_number, require


class Discounts(Protocol):
    """What stale updates count for."""

    @property
    def max_staleness(self) -> int | None: ...

    mixes: ClassVar[bool]

    def discount(self, staleness: int) -> float: ...


@final
@dataclass
class Buffer:
    """What came for the next step. `fresh` of those accepted began from the newest model; `fills` counts draws."""

    accepted: list[str] = field(default_factory=list[str])
    ended: set[str] = field(default_factory=set[str])
    failures: list[Receipt] = field(default_factory=list[Receipt])
    receipts: list[Receipt] = field(default_factory=list[Receipt])
    fresh: int = 0
    asked: int = 0
    fills: int = 0

    def copied(self) -> Buffer:
        return replace(
            self,
            accepted=[*self.accepted],
            ended={*self.ended},
            failures=[*self.failures],
            receipts=[*self.receipts],
        )


class Overlapping(Coordinator):
    """Leads turns each of which has the model of the step in which it began.

    Args:
        settings: what stale updates count for.
        config: see `ServerConfig`.
        population: whom there is to ask.
        grace_s: how long a buffer that nobody works for any more waits for clients that are gone.
    """

    overlaps = True

    def __init__(
        self, settings: Discounts, config: ServerConfig, population: Population, *, grace_s: float = 10.0
    ) -> None:
        super().__init__(config, population)
        self.grace_s, self.mixes = grace_s, settings.mixes
        self._discounts = settings
        self._training: dict[str, int] = {}
        self._gone: dict[str, float] = {}
        self.buffer: Buffer | None = None

    @property
    @abstractmethod
    def places(self) -> int:
        """For how many clients that are gone it waits at most."""

    @property
    @abstractmethod
    def updates(self) -> int:
        """Of about how many updates a step is made."""

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether the step is to be made now."""

    @abstractmethod
    def note(self, buffer: Buffer) -> None:
        """Learn from a step that is made, while it is still known who trains."""

    @abstractmethod
    def learned(self) -> dict[str, Any]:
        """What was learned, as plain data."""

    @abstractmethod
    def restore_learned(self, state: Mapping[str, Any]) -> None:
        """Take up what `learned` gave."""

    @property
    def least_available(self) -> int:
        return max(self.config.min_available_clients or 1, 1)

    def begin(self, now_s: float = 0.0) -> Phase | Ended:
        """The next step's phase: those who are asked on the new model. Others go on with the one they have.

        Raises:
            TooFewClients: nobody trains, and there are fewer clients than `min_available_clients`, or none.
        """
        if self.round >= self.config.num_rounds:
            return Ended("finished")
        if not self._training and self.population.size < self.least_available:
            there = f"{self.population.size} clients are available"
            raise TooFewClients(self.round + 1, f"{there}, min_available_clients is {self.least_available}")
        self.buffer = Buffer()
        return Phase(self.round + 1, "fit", self.fill())

    @property
    def training(self) -> Mapping[str, int]:
        """Who trains, each on the model of which step."""
        return self._training

    @property
    def there(self) -> set[str]:
        """Who trains and is not gone."""
        return {*self._training} - self._gone.keys()

    @property
    def excluded(self) -> set[str]:
        ended = set[str]() if self.buffer is None else self.buffer.ended
        return {*self._training, *ended}

    def asked(self, clients: Sequence[str]) -> tuple[str, ...]:
        """Take note that these train now."""
        assert self.buffer is not None
        self.buffer.fills += 1
        self.buffer.asked += len(clients)
        self._training |= dict.fromkeys(clients, self.round + 1)
        return tuple(clients)

    def receipt(self, receipt: Receipt) -> Decision:
        """Take note of an answer. Ones that nobody waits for, or on another model than was given, are dropped."""
        buffer = self.buffer
        if buffer is None or self._training.get(receipt.client) != receipt.round:
            return Decision(False)
        self._let_go(receipt.client)
        buffer.ended.add(receipt.client)
        buffer.receipts.append(receipt)
        if receipt.verdict != "done":
            buffer.failures.append(receipt)
            return Decision(False, close=self.complete or not self.config.accept_failures)
        most = self._discounts.max_staleness
        accept = most is None or self.round + 1 - receipt.round <= most
        if accept:
            buffer.accepted.append(receipt.client)
            buffer.fresh += receipt.round == self.round + 1
        return Decision(accept, close=self.complete)

    def lost(self, client: str, now_s: float) -> str | None:
        """Take note that the link to a client is gone: its place is free, and what it comes back with counts.

        Returns:
            a client that is no longer waited for: of more than `places` that are gone the first.
        """
        if client in self._training:
            self._gone.setdefault(client, now_s)
        if len(self._gone) <= self.places:
            return None
        first = next(iter(self._gone))
        self._let_go(first)
        if self.buffer is not None:
            # Asked again on the same model it would take up the turn that was called off.
            self.buffer.ended.add(first)
        return first

    def back(self, client: str) -> bool:
        """Take note that a client is there again; says whether it is still to answer."""
        self._gone.pop(client, None)
        return client in self._training

    def outdated(self) -> tuple[str, ...]:
        """Those whose updates would be thrown away as too stale; they are not waited for any more."""
        most = self._discounts.max_staleness
        late = [c for c, version in self._training.items() if most is not None and self.round + 1 - version > most]
        for client in late:
            self._let_go(client)
        return tuple(late)

    def abandon(self) -> None:
        """Wait for nobody any more."""
        self._training.clear()
        self._gone.clear()

    def _let_go(self, client: str) -> None:
        del self._training[client]
        self._gone.pop(client, None)

    def refuse(self, receipts: Sequence[Receipt]) -> bool:
        """Count updates of the open buffer as failures after all; says whether the buffer has to be closed."""
        buffer = self.buffer
        assert buffer is not None
        refused = {receipt.client for receipt in receipts}
        buffer.accepted = [client for client in buffer.accepted if client not in refused]
        buffer.fresh -= sum(receipt.round == self.round + 1 for receipt in receipts)
        buffer.receipts = [receipt for receipt in buffer.receipts if receipt.client not in refused] + list(receipts)
        buffer.failures += receipts
        return bool(receipts) and not self.config.accept_failures

    @property
    def gives_up_at_s(self) -> float:
        """When to step with what there is: nobody works for the buffer, those that are gone are not coming back, and
        there is nobody else to ask."""
        buffer = self.buffer
        if buffer is None or self.there or not buffer.ended:
            return math.inf
        if not self._gone:
            return -math.inf
        return max(self._gone.values()) + self.grace_s if buffer.accepted else math.inf

    def scale(self, version: int) -> float:
        return self._discounts.discount(self.round + 1 - version)

    @property
    def looks_at_s(self) -> float:
        return math.inf

    def tick(self, now_s: float) -> bool:
        return False

    def close(self, *, examples: float = 1.0) -> Literal["step", "retry"]:
        """Take the step with what is in the buffer.

        Raises:
            TooFewClients: that is nothing.
        """
        buffer = self.buffer
        if buffer is None:
            raise ConfigError("there is no open buffer to close")
        self.buffer = None
        if buffer.accepted and examples > 0 and (self.config.accept_failures or not buffer.failures):
            self.note(buffer)
            return "step"
        reason = f"{len(buffer.accepted)} updates arrived and {len(buffer.failures)} clients failed"
        if buffer.failures:
            reason += f"; client {buffer.failures[0].client}: {buffer.failures[0].reason}"
        raise TooFewClients(self.round + 1, f"{reason}. Mend the clients, or ask more at once")

    def mark(self) -> Any:
        return dict(self._training), None if self.buffer is None else self.buffer.copied()

    def reset(self, mark: Any) -> None:
        training, buffer = mark
        self._training, self.buffer = dict(training), None if buffer is None else buffer.copied()

    def own_state(self) -> dict[str, Any]:
        return {"training": [[client, version] for client, version in self._training.items()], **self.learned()}

    def restore_own(self, state: Mapping[str, Any]) -> None:
        self._training = dict(state["training"])
        self.restore_learned(state)


def is_whole(value: object, least: int) -> bool:
    """Whether an argument is a whole number of at least so much."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_staleness(exponent: object, most: object) -> None:
    """Refuse a discount that is none.

    Raises:
        ConfigError: an argument is not what it has to be.
    """
    require(
        isinstance(exponent, (int, float)) and is_number(exponent) and 0 <= exponent < math.inf,
        f"staleness_exponent must be a finite number of at least 0, got {exponent!r}",
    )
    require(most is None or is_whole(most, 0), f"max_staleness must be at least 0 or None, got {most!r}")


def only_without(config: ServerConfig, run: str, others: Mapping[str, str]) -> None:
    """Refuse settings that have no meaning in a kind of run.

    Raises:
        NotSupported: names the first one and what holds instead.
    """
    plain = ServerConfig()
    for name, instead in others.items():
        if getattr(config, name) != getattr(plain, name):
            raise NotSupported(f"{name} has no meaning in {run}: {instead}; leave it out")
