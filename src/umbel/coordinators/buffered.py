"""`Buffered` and `FedAsync`: clients train all the time, each on the model it was given, and the server steps as
updates arrive. Receipts and times are arguments, asks and verdicts return values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, TypeAlias, final

from umbel.coordinators.config import ServerConfig
from umbel.coordinators.overlapping import Buffer, Overlapping, check_staleness, is_whole, only_without
from umbel.coordinators.population import Population, cohort_key
from umbel.errors import NotSupported
from umbel.message import is_number, require


@final
@dataclass(frozen=True)
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
    _: KW_ONLY
    buffer_size: int = 10
    staleness_exponent: float = 0.5
    max_staleness: int | None = None
    mixes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self)
        require(is_whole(self.buffer_size, 1), f"buffer_size must be at least 1, got {self.buffer_size!r}")

    def discount(self, staleness: int) -> float:
        """The factor on an update from a model that is so many steps old."""
        return (1.0 + staleness) ** -self.staleness_exponent


@final
@dataclass(frozen=True)
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
    _: KW_ONLY
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


def _check(settings: Asynchronous) -> None:
    require(is_whole(settings.concurrency, 1), f"concurrency must be at least 1, got {settings.concurrency!r}")
    check_staleness(settings.staleness_exponent, settings.max_staleness)


@final
class Streams(Overlapping):
    """Leads an asynchronous run: one stream of turns for each place that `concurrency` gives.

    Args:
        settings: see `Buffered` and `FedAsync`.
        config: see `ServerConfig`; what speaks of cohorts and rounds does not apply and is refused.
        population: whom there is to ask.
        grace_s: as in `Overlapping`.
    """

    def __init__(
        self, settings: Asynchronous, config: ServerConfig, population: Population, *, grace_s: float = 10.0
    ) -> None:
        check_config(config)
        super().__init__(settings, config, population, grace_s=grace_s)
        self.settings = settings

    @property
    def places(self) -> int:
        return self.settings.concurrency

    @property
    def updates(self) -> int:
        return self.settings.buffer_size

    def fill(self) -> tuple[str, ...]:
        buffer, free = self.buffer, self.places - len(self.there)
        if buffer is None or free <= 0:
            return ()
        key = cohort_key(self.seed, self.round + 1, buffer.fills, "fit")
        return self.asked(self.drawn(key, free, self.excluded))

    @property
    def complete(self) -> bool:
        return self.buffer is not None and len(self.buffer.accepted) >= self.updates

    def note(self, buffer: Buffer) -> None:
        return None

    def learned(self) -> dict[str, Any]:
        return {}

    def restore_learned(self, state: Mapping[str, Any]) -> None:
        return None


def check_config(config: ServerConfig) -> None:
    """Refuse settings that speak of cohorts and their rounds.

    Raises:
        NotSupported: names the first one and what to use instead.
    """
    only_without(
        config,
        "an asynchronous run",
        {
            "arrivals": "clients are drawn from those that are there, without a round_timeout",
            "fraction_fit": "concurrency says how many clients train at once",
            "min_fit_clients": "concurrency says how many clients train at once",
            "over_selection": "nobody waits for slow clients",
            "quorum": "a step needs buffer_size updates",
            "round_timeout": "a step needs buffer_size updates, whenever they come",
            "round_retries": "clients that fail are replaced",
        },
    )
    if not config.selector.streams:
        raise NotSupported(
            f"{type(config.selector).__name__} draws whole cohorts, and in an asynchronous run clients are asked one "
            "by one; use Uniform() or Weighted(...), or rounds"
        )
