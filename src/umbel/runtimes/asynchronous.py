"""Which parts can work together in an asynchronous run, wherever it is played."""

from __future__ import annotations

from umbel.coordinators import Asynchronous, Buffered, FedAsync
from umbel.errors import NotSupported
from umbel.message import require
from umbel.strategy import Strategy

GIVES_UP = 100
"""So many failures without one answer end an asynchronous run, which would ask one client after the other."""


def is_one(coordinator: object) -> Asynchronous:
    """`coordinator`, if it says how an asynchronous run goes.

    Raises:
        ConfigError: it does not.
    """
    require(
        isinstance(coordinator, (Buffered, FedAsync)),
        f"coordinator must be one such as Buffered() or FedAsync(), or None for rounds, got {coordinator!r}",
    )
    assert isinstance(coordinator, (Buffered, FedAsync))
    return coordinator


def check_strategy(strategy: Strategy, coordinator: Asynchronous) -> None:
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
