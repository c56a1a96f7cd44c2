"""Strategies with the keywords that people already know, each routed to its one owner.

`FedAvg(fraction_fit=0.1, evaluate_fn=f)` gives the strategy `umbel.FedAvg()`, the coordinator `fraction_fit`, the run
`evaluate_fn`. `simulate` accepts the result as its strategy; giving one fact twice is an error there.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Container
from typing import Any

import umbel.strategies as own
from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
from umbel.reducers import Median
from umbel.runtimes.routed import Routed
from umbel.strategy import Strategy

_CONFIG = tuple(field.name for field in dataclasses.fields(ServerConfig))
_RUN = (
    "evaluate_fn",
    "initial_parameters",
    "on_evaluate_config_fn",
    "on_fit_config_fn",
    "fit_metrics_aggregation_fn",
    "evaluate_metrics_aggregation_fn",
)


def _routed(
    make: Callable[..., Strategy], known: dict[str, Any], renamed: dict[str, str], fixed: dict[str, Any] | None = None
) -> Routed:
    """Send each keyword to its owner; what has none goes to the strategy under its name there."""
    config = {name: known.pop(name) for name in _CONFIG if name in known}
    run = {name: known.pop(name) for name in _RUN if name in known}
    known.pop("inplace", None)
    ServerConfig(**config)  # refuses a value out of range here, where it stands
    fixed = fixed or {}
    strategy = make(**_arguments(make, known, renamed, without=fixed), **fixed)
    return Routed(strategy, config, {name: value for name, value in run.items() if value is not None})


def _arguments(
    make: Callable[..., Strategy], known: dict[str, Any], renamed: dict[str, str], without: Container[str]
) -> dict[str, Any]:
    """The strategy's own arguments.

    Raises:
        ConfigError: a keyword has no owner, or one was given under both of its names.
    """
    accepted = [name for name in _accepted(make) if name not in without]
    arguments: dict[str, Any] = {}
    for name, value in known.items():
        target = renamed.get(name, name)
        if target not in accepted:
            everything = sorted({*accepted, *(old for old, new in renamed.items() if new in accepted)})
            raise ConfigError(
                f"{make.__name__} has no argument {name!r}; known are {', '.join(everything)}; "
                f"of the run {', '.join(_RUN)}; of ServerConfig {', '.join(_CONFIG)}"
            )
        if target in arguments:
            twice = " and ".join(sorted(given for given in known if renamed.get(given, given) == target))
            raise ConfigError(f"{make.__name__}: {twice} are the same argument; drop one")
        arguments[target] = value
    return arguments


def _accepted(make: Callable[..., Strategy]) -> list[str]:
    """What a strategy takes; the functions among them pass on to `FedAvg` what they do not know, besides `server`."""
    parameters = inspect.signature(make).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    if len(names) < len(parameters):
        names += [name for name in inspect.signature(own.FedAvg).parameters if name != "server"]
    return names


def FedAvg(**known: Any) -> Routed:
    """`umbel.FedAvg` with the known keywords."""
    return _routed(own.FedAvg, known, {})


def FedProx(**known: Any) -> Routed:
    """`umbel.FedProx`; `proximal_mu` is its mu."""
    return _routed(own.FedProx, known, {"proximal_mu": "mu"})


def FedAvgM(**known: Any) -> Routed:
    """`umbel.FedAvgM`; `server_learning_rate` is its lr, `server_momentum` its beta."""
    return _routed(own.FedAvgM, known, {"server_learning_rate": "lr", "server_momentum": "beta"})


def FedAdam(**known: Any) -> Routed:
    """`umbel.FedAdam`; `eta` is its lr, `beta_1` and `beta_2` its betas."""
    return _adaptive(own.FedAdam, known)


def FedYogi(**known: Any) -> Routed:
    """`umbel.FedYogi`; keywords as `FedAdam`."""
    return _adaptive(own.FedYogi, known)


def FedAdagrad(**known: Any) -> Routed:
    """`umbel.FedAdagrad`; `eta` is its lr."""
    return _adaptive(own.FedAdagrad, known)


def QFedAvg(**known: Any) -> Routed:
    """`umbel.QFedAvg`; `q_param` is its q, `qffl_learning_rate` its lr."""
    return _routed(own.QFedAvg, known, {"q_param": "q", "qffl_learning_rate": "lr"})


def FedMedian(**known: Any) -> Routed:
    """`umbel.FedAvg` with the coordinate median as its reducer."""
    return _routed(own.FedAvg, known, {}, fixed={"reducer": Median()})


def _adaptive(make: Callable[..., Strategy], known: dict[str, Any]) -> Routed:
    # The clients' learning rate is the clients' business here; the known spelling only passes it on.
    known.pop("eta_l", None)
    return _routed(make, known, {"eta": "lr", "beta_1": "beta1", "beta_2": "beta2"})


def __getattr__(name: str) -> Any:
    there = sorted(known for known in globals() if known.startswith(("Fed", "QFed")))
    raise AttributeError(
        f"fl.server.strategy has no {name!r}; there are {', '.join(there)}. Others are under fl itself: fl.Scaffold, "
        "fl.FedNova, fl.FedDyn, fl.FedSGD, or fl.FedAvg(server=..., reducer=...)"
    )
