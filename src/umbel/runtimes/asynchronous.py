"""Which parts can work together where turns outlive their step, wherever the run is played."""

from __future__ import annotations

from umbel.coordinators import Buffered, FedAsync, Overlap, Tiered
from umbel.errors import NotSupported
from umbel.message import require
from umbel.runtimes import enough
from umbel.strategy import Strategy

GIVES_UP = 100
"""So many failures without one answer end an asynchronous run, which would ask one client after the other."""


def is_one(coordinator: object) -> Overlap:
    """`coordinator`, if it says how turns overlap.

    Raises:
        ConfigError: it does not.
    """
    require(
        isinstance(coordinator, (Buffered, FedAsync, Tiered)),
        "coordinator must be one such as Secure(), Buffered(concurrency=8) or Tiered(), or None for plain rounds, got "
        f"{coordinator!r}",
    )
    assert isinstance(coordinator, (Buffered, FedAsync, Tiered))
    return coordinator


def check_strategy(strategy: Strategy, coordinator: Overlap) -> None:
    """Refuse a method whose mathematics needs all updates to begin from the same model.

    Raises:
        NotSupported: it does.
    """
    if not strategy.takes_stale:
        raise NotSupported(
            f"{type(coordinator).__name__} folds updates that began from older models, which "
            f"{type(strategy).__name__} has no room for; use FedAvg (with any server optimiser) or FedProx, or declare "
            "takes_stale = True in a strategy of your own"
        )
    enough.check_step(strategy, coordinator)
