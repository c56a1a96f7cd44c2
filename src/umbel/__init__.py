"""Umbel: federated learning. Train, evaluate and analyse models on data that cannot be moved.

```
import umbel as fl
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "umbel.arrays": ("Arrays",),
    "umbel.clients": ("Client", "Delta", "GradientClient", "Gradients", "NumPyClient"),
    "umbel.clients.sklearn": ("SklearnClient",),
    "umbel.clients.torch": ("TorchClient",),
    "umbel.coordinators": ("ServerConfig",),
    "umbel.errors": (
        "ClientError",
        "ConfigError",
        "NotSupported",
        "RoundError",
        "StoreError",
        "TooFewClients",
        "UmbelError",
    ),
    "umbel.local": ("Correction",),
    "umbel.message": ("Context",),
    "umbel.optimizers": ("adagrad", "adam", "momentum", "sgd", "yogi"),
    "umbel.reducers": ("Mean", "Median"),
    "umbel.runtimes.history": ("History",),
    "umbel.runtimes.run": ("Run",),
    "umbel.runtimes.simulate": ("simulate",),
    "umbel.stores": ("MemoryStore", "SQLiteStore"),
    "umbel.strategies": (
        "FedAdagrad",
        "FedAdam",
        "FedAvg",
        "FedAvgM",
        "FedDyn",
        "FedNova",
        "FedProx",
        "FedSGD",
        "FedYogi",
        "QFedAvg",
        "Scaffold",
    ),
    "umbel.strategy": ("State", "Strategy"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("client", "data", "errors", "server", "testing")

__all__ = [*sorted(_HOME_OF), "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"umbel.{name}")
    raise AttributeError(f"module 'umbel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]


if TYPE_CHECKING:
    from umbel.arrays import Arrays as Arrays
    from umbel.clients import (
        Client as Client,
        Delta as Delta,
        GradientClient as GradientClient,
        Gradients as Gradients,
        NumPyClient as NumPyClient,
    )
    from umbel.clients.sklearn import SklearnClient as SklearnClient
    from umbel.clients.torch import TorchClient as TorchClient
    from umbel.coordinators import ServerConfig as ServerConfig
    from umbel.errors import (
        ClientError as ClientError,
        ConfigError as ConfigError,
        NotSupported as NotSupported,
        RoundError as RoundError,
        StoreError as StoreError,
        TooFewClients as TooFewClients,
        UmbelError as UmbelError,
    )
    from umbel.local import Correction as Correction
    from umbel.message import Context as Context
    from umbel.optimizers import adagrad as adagrad, adam as adam, momentum as momentum, sgd as sgd, yogi as yogi
    from umbel.reducers import Mean as Mean, Median as Median
    from umbel.runtimes.history import History as History
    from umbel.runtimes.run import Run as Run
    from umbel.runtimes.simulate import simulate as simulate
    from umbel.stores import MemoryStore as MemoryStore, SQLiteStore as SQLiteStore
    from umbel.strategies import (
        FedAdagrad as FedAdagrad,
        FedAdam as FedAdam,
        FedAvg as FedAvg,
        FedAvgM as FedAvgM,
        FedDyn as FedDyn,
        FedNova as FedNova,
        FedProx as FedProx,
        FedSGD as FedSGD,
        FedYogi as FedYogi,
        QFedAvg as QFedAvg,
        Scaffold as Scaffold,
    )
    from umbel.strategy import State as State, Strategy as Strategy
