"""`Buffered` and `FedAsync`: clients train all the time, each on the model it was given, and the server steps as
updates arrive. Receipts and times are arguments, asks and verdicts return values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias, final

from umbel.coordinators.abstract import Coordinator, Decision, Ended, Phase
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.population import Population, cohort_key, draw
from umbel.errors import ConfigError, NotSupported, TooFewClients
from umbel.message import Receipt, is_number, require


@final
@dataclass(frozen=True, kw_only=True)
class Buffered:
    """FedBuff: `concurrency` clients train at once; every `buffer_size` updates make one step of the server.

    x ← x + server(Σ wᵢ·s(τᵢ)·Δᵢ / Σ wᵢ) with s(τ) = (1 + τ)^-staleness_exponent, where τᵢ is by how many steps the
    model has moved on since client i was given it. The update is scaled, never its weight. A round is one step. A
    place that becomes free is filled as soon as time goes on; a client whose update lies in the buffer waits for the
    step.

    Args:
        concurrency: how many clients train at once, at least 1.
        buffer_size: how many updates make a step, at least 1.
        staleness_exponent: at least 0; 0 does not discount.
        max_staleness: updates that are staler are thrown away; None takes all.

    Raises:
        ConfigError: an argument is not what it has to be.

    Example:
        >>> Buffered(concurrency=100, buffer_size=10).discount(3)
        0.5

    References:
        J. Nguyen, K. Malik, H. Zhan, A. Yousefpour, M. Rabbat, M. Malek, D. Huba, "Federated Learning with Buffered
        Asynchronous Aggregation", AISTATS 2022, https://arxiv.org/abs/2106.06639
    """

    concurrency: int
    buffer_size: int = 10
    staleness_exponent: float = 0.5
    max_staleness: int | None = None
    mixes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self)
        require(_is_whole(self.buffer_size, 1), f"buffer_size must be at least 1, got {self.buffer_size!r}")

    def discount(self, staleness: int) -> float:
        """The factor on an update from a model that is so many steps old."""
        return (1.0 + staleness) ** -self.staleness_exponent


@final
@dataclass(frozen=True, kw_only=True)
class FedAsync:
    """Each update moves the server's model at once, towards the client's: x ← (1 - α)·x + α·xᵢ, α = mixing·s(τ).

    s(τ) = (1 + τ)^-staleness_exponent is the paper's polynomial discount, xᵢ the client's model after training.

    Args:
        concurrency: how many clients train at once, at least 1.
        mixing: α of an update that is not stale, above 0 to 1.
        staleness_exponent: at least 0; 0 does not discount.
        max_staleness: updates that are staler are thrown away; None takes all.

    Raises:
        ConfigError: an argument is not what it has to be.

    References:
        C. Xie, S. Koyejo, I. Gupta, "Asynchronous Federated Optimization", 2019, https://arxiv.org/abs/1903.03934
    """

    concurrency: int
    mixing: float = 0.6
    staleness_exponent: float = 0.5
    max_staleness: int | None = None
    buffer_size: ClassVar[int] = 1
    mixes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)
        require(
            is_number(self.mixing) and 0 < self.mixing <= 1,
            f"mixing must be above 0 and at most 1, got {self.mixing!r}",
        )

    def discount(self, staleness: int) -> float:
        """The factor on an update from a model that is so many steps old."""
        return self.mixing * (1.0 + staleness) ** -self.staleness_exponent


Asynchronous: TypeAlias = Buffered | FedAsync


def _check(settings: Any) -> None:
    require(_is_whole(settings.concurrency, 1), f"concurrency must be at least 1, got {settings.concurrency!r}")
    exponent = settings.staleness_exponent
    require(
        is_number(exponent) and 0 <= exponent < math.inf,
        f"staleness_exponent must be a finite number of at least 0, got {exponent!r}",
    )
    most = settings.max_staleness
    require(most is None or _is_whole(most, 0), f"max_staleness must be at least 0 or None, got {most!r}")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@final
@dataclass
class _Buffer:
    """The buffer of the next step."""

    accepted: list[str] = field(default_factory=list[str])
    ended: set[str] = field(default_factory=set[str])
    failures: list[Receipt] = field(default_factory=list[Receipt])
    fills: int = 0


@final
class Streams(Coordinator):
    """Leads an asynchronous run: one stream of turns for each place that `concurrency` gives.

    Args:
        settings: see `Buffered` and `FedAsync`.
        config: see `ServerConfig`; what speaks of cohorts and rounds does not apply and is refused.
        population: whom there is to ask.
        grace_s: how long a buffer that nobody works for any more waits for clients that are gone.
    """

    overlaps = True

    def __init__(
        self, settings: Asynchronous, config: ServerConfig, population: Population, *, grace_s: float = 10.0
    ) -> None:
        check_config(config)
        super().__init__(config, population)
        self.settings, self.grace_s = settings, grace_s
        self.mixes = settings.mixes
        self._training: dict[str, int] = {}
        self._gone: dict[str, float] = {}
        self._buffer: _Buffer | None = None

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
        self._buffer = _Buffer()
        return Phase(self.round + 1, "fit", self.fill())

    @property
    def excluded(self) -> set[str]:
        ended = set[str]() if self._buffer is None else self._buffer.ended
        return {*self._training, *ended}

    def fill(self) -> tuple[str, ...]:
        buffer, free = self._buffer, self.settings.concurrency - len(self._training.keys() - self._gone.keys())
        if buffer is None or free <= 0:
            return ()
        key = cohort_key(self.seed, self.round + 1, buffer.fills, "fit")
        buffer.fills += 1
        drawn = draw(self.population, key, free, self.excluded)
        self._training |= dict.fromkeys(drawn, self.round + 1)
        return tuple(drawn)

    def receipt(self, receipt: Receipt) -> Decision:
        """Take note of an answer. Ones that nobody waits for, or on another model than was given, are dropped."""
        buffer = self._buffer
        if buffer is None or self._training.get(receipt.client) != receipt.round:
            return Decision(False)
        self._let_go(receipt.client)
        buffer.ended.add(receipt.client)
        if receipt.verdict != "done":
            buffer.failures.append(receipt)
            return Decision(False, close=not self.config.accept_failures)
        most = self.settings.max_staleness
        accept = most is None or self.round + 1 - receipt.round <= most
        if accept:
            buffer.accepted.append(receipt.client)
        return Decision(accept, close=len(buffer.accepted) >= self.settings.buffer_size)

    def lost(self, client: str, now_s: float) -> str | None:
        """Take note that the link to a client is gone: its place is free, and what it comes back with counts.

        Returns:
            a client that is no longer waited for: of more than `concurrency` that are gone the first.
        """
        if client in self._training:
            self._gone.setdefault(client, now_s)
        if len(self._gone) <= self.settings.concurrency:
            return None
        first = next(iter(self._gone))
        self._let_go(first)
        if self._buffer is not None:
            # Asked again on the same model it would take up the turn that was called off.
            self._buffer.ended.add(first)
        return first

    def back(self, client: str) -> bool:
        """Take note that a client is there again; says whether it is still to answer."""
        self._gone.pop(client, None)
        return client in self._training

    def outdated(self) -> tuple[str, ...]:
        """Those whose updates would be thrown away as too stale; they are not waited for any more."""
        most = self.settings.max_staleness
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
        buffer = self._buffer
        assert buffer is not None
        refused = {receipt.client for receipt in receipts}
        buffer.accepted = [client for client in buffer.accepted if client not in refused]
        buffer.failures += receipts
        return bool(receipts) and not self.config.accept_failures

    @property
    def gives_up_at_s(self) -> float:
        """When to step with what there is: nobody works for the buffer, those that are gone are not coming back, and
        there is nobody else to ask."""
        buffer = self._buffer
        if buffer is None or self._training.keys() - self._gone.keys() or not buffer.ended:
            return math.inf
        if not self._gone:
            return -math.inf
        return max(self._gone.values()) + self.grace_s if buffer.accepted else math.inf

    def scale(self, version: int) -> float:
        return self.settings.discount(self.round + 1 - version)

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
        buffer = self._buffer
        if buffer is None:
            raise ConfigError("there is no open buffer to close")
        self._buffer = None
        if buffer.accepted and examples > 0 and (self.config.accept_failures or not buffer.failures):
            return "step"
        reason = f"{len(buffer.accepted)} updates arrived and {len(buffer.failures)} clients failed"
        if buffer.failures:
            reason += f"; client {buffer.failures[0].client}: {buffer.failures[0].reason}"
        raise TooFewClients(self.round + 1, f"{reason}. Mend the clients, or raise concurrency")

    def mark(self) -> Any:
        buffer = self._buffer
        return dict(self._training), None if buffer is None else _copied(buffer)

    def reset(self, mark: Any) -> None:
        training, buffer = mark
        self._training, self._buffer = dict(training), None if buffer is None else _copied(buffer)

    def own_state(self) -> dict[str, Any]:
        return {"training": [[client, version] for client, version in self._training.items()]}

    def restore_own(self, state: Mapping[str, Any]) -> None:
        self._training = dict(state["training"])

    @property
    def training(self) -> Mapping[str, int]:
        """Who trains, each on the model of which step."""
        return self._training


def _copied(buffer: _Buffer) -> _Buffer:
    return replace(buffer, accepted=[*buffer.accepted], ended={*buffer.ended}, failures=[*buffer.failures])


def check_config(config: ServerConfig) -> None:
    """Refuse settings that speak of cohorts and their rounds.

    Raises:
        NotSupported: names the first one and what to use instead.
    """
    plain = ServerConfig()
    for name, instead in (
        ("fraction_fit", "concurrency says how many clients train at once"),
        ("min_fit_clients", "concurrency says how many clients train at once"),
        ("over_selection", "nobody waits for slow clients"),
        ("quorum", "a step needs buffer_size updates"),
        ("round_timeout", "a step needs buffer_size updates, whenever they come"),
        ("round_retries", "clients that fail are replaced"),
        ("arrivals", "clients are drawn from those that are there"),
    ):
        if getattr(config, name) != getattr(plain, name):
            raise NotSupported(f"{name} has no meaning in an asynchronous run: {instead}; leave it out")
