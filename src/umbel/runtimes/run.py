"""`Run`: the server's side of an app, as a value that an app's `run` function returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, final

from umbel.arrays import ArraysLike
from umbel.coordinators import Overlap, Secure, ServerConfig
from umbel.message import require
from umbel.privacy.plan import PrivacyPlan
from umbel.runtimes.system import SystemModel
from umbel.strategies import FedAvg
from umbel.strategy import Strategy


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """What to run: strategy, initial parameters, coordinator's settings, evaluation.

    Args:
        num_clients: how many partitions a simulation has, at least 1.
        system: a model of time for simulations; real nodes take the time they take.
        coordinator: `Buffered(...)`, `FedAsync(...)` or `Tiered(...)`, simulated or on nodes, or
            `Secure(...)`; None is plain rounds.
        privacy: the differential privacy that the run promises; None promises none.
        Others: as in `simulate`.
    """

    num_clients: int = 2
    strategy: Strategy = field(default_factory=FedAvg)
    config: ServerConfig = field(default_factory=ServerConfig)
    initial_parameters: ArraysLike | None = None
    evaluate_fn: Callable[..., Any] | None = None
    on_fit_config_fn: Callable[[int], Mapping[str, Any]] | None = None
    on_evaluate_config_fn: Callable[[int], Mapping[str, Any]] | None = None
    attributes: Callable[[str], Mapping[str, Any]] | None = None
    system: SystemModel | None = None
    coordinator: Overlap | Secure | None = None
    privacy: PrivacyPlan | None = None

    def __post_init__(self) -> None:
        require(self.num_clients >= 1, f"num_clients must be at least 1, got {self.num_clients}")

    @property
    def arguments(self) -> dict[str, Any]:
        """What `simulate` is given for it, beside a client function."""
        return {each.name: getattr(self, each.name) for each in fields(self)}
