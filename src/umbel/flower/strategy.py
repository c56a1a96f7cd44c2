"""`flwr.server.strategy`: their names for `umbel.server.strategy`, with `Parameters` where arrays begin a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, final

import umbel.server.strategy as known
from umbel.errors import ConfigError
from umbel.flower.common import Parameters, parameters_to_ndarrays
from umbel.runtimes.routed import Routed


@final
class Spelling:
    """A strategy's name, which can be called with the known keywords."""

    def __init__(self, make: Callable[..., Routed]) -> None:
        self.make, self.__name__ = make, make.__name__

    def __call__(self, **keywords: Any) -> Routed:
        given = keywords.get("initial_parameters")
        if isinstance(given, Parameters):
            keywords["initial_parameters"] = parameters_to_ndarrays(given)
        return self.make(**keywords)

    def __mro_entries__(self, bases: Any) -> NoReturn:
        """Called where a class is derived from this."""
        raise ConfigError(
            f"{self.__name__} cannot be subclassed here: to save or measure the model each round give evaluate_fn=..., "
            "to change the method write an umbel.Strategy"
        )


def _fedprox(*, proximal_mu: float, on_fit_config_fn: Callable[[int], Any] | None = None, **keywords: Any) -> Routed:
    """Averaging whose clients read `proximal_mu` in their config, and apply it themselves."""

    def settings(server_round: int) -> dict[str, Any]:
        given: Any = {} if on_fit_config_fn is None else on_fit_config_fn(server_round)
        return {**given, "proximal_mu": proximal_mu}

    return known.FedAvg(on_fit_config_fn=settings, **keywords)


_fedprox.__name__ = "FedProx"
FedAdagrad, FedAdam, FedAvg = Spelling(known.FedAdagrad), Spelling(known.FedAdam), Spelling(known.FedAvg)
FedAvgM, FedMedian, FedProx = Spelling(known.FedAvgM), Spelling(known.FedMedian), Spelling(_fedprox)
FedYogi, QFedAvg = Spelling(known.FedYogi), Spelling(known.QFedAvg)

__all__ = ["FedAdagrad", "FedAdam", "FedAvg", "FedAvgM", "FedMedian", "FedProx", "FedYogi", "QFedAvg"]
