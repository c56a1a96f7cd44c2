"""Which parts can work together in secure rounds, wherever they are played. It imports no cryptography."""

from __future__ import annotations

from umbel.coordinators import Secure, ServerConfig
from umbel.errors import NotSupported
from umbel.strategy import Strategy


def check_secure(settings: Secure, config: ServerConfig, *, per_client: bool) -> None:
    """Refuse what would tell more than sums.

    Args:
        per_client: whether a function of the user's wants to see each client's metrics.

    Raises:
        NotSupported: names the first such setting.
    """
    settings.check(config)
    if per_client:
        raise NotSupported(
            "fit_metrics_aggregation_fn and evaluate_metrics_aggregation_fn see each client's metrics, which Secure() "
            "hides; leave them out: the metrics that Secure(metrics=...) names are summed under the masks"
        )


def played(strategy: Strategy, coordinator: object) -> Strategy:
    """The strategy as clients play it under this coordinator.

    Raises:
        NotSupported: its reducer is not linear, or the package `cryptography` is missing.
    """
    if not isinstance(coordinator, Secure):
        return strategy
    try:
        if coordinator.secure_sum is not None:
            from umbel.runtimes.encrypted import encrypted

            return encrypted(strategy, coordinator)
        from umbel.runtimes.secure import secured
    except ImportError:
        raise NotSupported("Secure() needs the package cryptography: pip install 'umbel[identity]'") from None
    return secured(strategy, coordinator)
