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
_MODULES = ("analytics", "client", "data", "errors", "server", "testing")

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
