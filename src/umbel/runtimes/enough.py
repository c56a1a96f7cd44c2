"""Whether a run's rounds can have as many updates as its reducer or a secure sum needs, and ask no more than meant."""

from __future__ import annotations

from umbel.coordinators import Overlap, Secure, ServerConfig
from umbel.coordinators.abstract import count_of
from umbel.errors import NotSupported
from umbel.strategy import Strategy

CROWD, TIMES = 10_000, 20
"""An evaluation by more clients, and by more times as many as train, was hardly meant."""


def crowds(config: ServerConfig, clients: int, at_once: int | None = None) -> list[str]:
    """A sentence where so many are asked to evaluate that nearly all of a round is that.

    Args:
        clients: how many there are.
        at_once: how many train for a step; None is the cohort of a round.
    """
    if config.fraction_evaluate == 0:
        return []
    train = at_once or count_of(0.0 if config.arrivals else config.fraction_fit, config.min_fit_clients, clients)
    evaluate = count_of(config.fraction_evaluate, config.min_evaluate_clients, clients)
    if evaluate <= CROWD or evaluate <= TIMES * train:
        return []
    when = "each round" if config.evaluate_every == 1 else f"every {config.evaluate_every} rounds"
    return [
        f"{evaluate:,} clients evaluate the model {when}, and {train:,} train: fraction_evaluate is "
        f"{config.fraction_evaluate:g}. Set it to {train / clients:.2g} for as many as train, or to 0 for none"
    ]


def check_cohort(strategy: Strategy, config: ServerConfig, clients: int) -> None:
    """Refuse rounds that ask fewer clients than the reducer needs updates.

    Args:
        clients: how many there are.

    Raises:
        NotSupported: names both numbers.
    """
    least = strategy.reducer.least_updates
    share = 0.0 if config.arrivals else config.fraction_fit
    asked = count_of(share, config.min_fit_clients, clients)
    if clients and asked < least:
        raise NotSupported(
            f"{strategy.reducer!r} needs at least {least} updates a round, and a round asks {asked} of {clients} "
            "clients; raise fraction_fit or min_fit_clients, or let it withstand fewer bad ones"
        )


def check_secure_cohort(settings: Secure, config: ServerConfig, clients: int) -> None:
    """Refuse secure rounds that ask fewer clients than a sum is opened of.

    Args:
        clients: how many there are, or are waited for.

    Raises:
        NotSupported: names both numbers.
    """
    asked = count_of(config.fraction_fit, config.min_fit_clients, clients)
    if asked < settings.min_cohort:
        raise NotSupported(
            f"Secure(min_cohort={settings.min_cohort}) opens no sum of fewer clients, and a round asks {asked} of "
            f"{clients}; take more clients, raise fraction_fit, min_fit_clients or min_available_clients, or lower "
            "min_cohort, where the clients' owners allow that"
        )


def check_step(strategy: Strategy, coordinator: Overlap) -> None:
    """Refuse steps of an asynchronous run that take fewer updates than the reducer needs.

    Raises:
        NotSupported: names both numbers.
    """
    least, taken = strategy.reducer.least_updates, getattr(coordinator, "buffer_size", None)
    if taken is not None and taken < least:
        raise NotSupported(
            f"{strategy.reducer!r} needs at least {least} updates a step, and buffer_size is {taken}; raise "
            "buffer_size, or let it withstand fewer bad ones"
        )
