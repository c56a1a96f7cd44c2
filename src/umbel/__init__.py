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
    "umbel.clients.jax.client": ("JaxClient",),
    "umbel.clients.linear_clients": ("LinearClients",),
    "umbel.clients.sklearn": ("SklearnClient",),
    "umbel.clients.torch.client": ("TorchClient",),
    "umbel.clients.torch.source": ("TorchClients",),
    "umbel.coordinators": (
        "Balanced",
        "Buffered",
        "Experience",
        "FedAsync",
        "Oort",
        "PowerOfChoice",
        "Secure",
        "Seen",
        "Selector",
        "ServerConfig",
        "Tiered",
        "Uniform",
        "Weighted",
    ),
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
    "umbel.privacy.ckks.parameters": ("ckks",),
    "umbel.privacy.adaptive": ("AdaptiveClip",),
    "umbel.privacy.plan": ("PrivacyPlan",),
    "umbel.reducers": (
        "Bucketing",
        "Bulyan",
        "CenteredClipping",
        "ClippedMean",
        "FLTrust",
        "FoolsGold",
        "GeometricMedian",
        "Krum",
        "Mean",
        "Median",
        "MultiKrum",
        "NearestNeighbourMixing",
        "TrimmedMean",
    ),
    "umbel.runtimes.cluster": ("Cluster",),
    "umbel.runtimes.forgetting.forget": ("Forgotten", "forget"),
    "umbel.runtimes.history": ("History",),
    "umbel.runtimes.run": ("Run",),
    "umbel.runtimes.simulate": ("simulate",),
    "umbel.runtimes.sweep": ("PointResult", "Range", "Sweep", "SweepRun", "sweep"),
    "umbel.runtimes.system": (
        "Always",
        "Diurnal",
        "Empirical",
        "HalfNormal",
        "LogNormal",
        "OnOff",
        "Pareto",
        "SystemModel",
        "Trace",
        "Zipf",
    ),
    "umbel.runtimes.worth.contributions": ("contributions",),
    "umbel.runtimes.worth.result": ("ClientValue", "Contributions"),
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
_EXTRAS = {"torch": "torch", "sklearn": "sklearn", "jax": "jax"}
_MODULES = ("client", "data", "errors", "server", "testing")

__all__ = [*sorted(_HOME_OF), "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        try:
            value = getattr(importlib.import_module(_HOME_OF[name]), name)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRAS:
                raise
            extra = _EXTRAS[error.name]
            raise ImportError(f"fl.{name} needs {error.name}; install it with: pip install 'umbel[{extra}]'") from None
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
    )
    from umbel.clients import (
        Delta as Delta,
    )
    from umbel.clients import (
        GradientClient as GradientClient,
    )
    from umbel.clients import (
        Gradients as Gradients,
    )
    from umbel.clients import (
        NumPyClient as NumPyClient,
    )
    from umbel.clients.jax.client import JaxClient as JaxClient
    from umbel.clients.linear_clients import LinearClients as LinearClients
    from umbel.clients.sklearn import SklearnClient as SklearnClient
    from umbel.clients.torch.client import TorchClient as TorchClient
    from umbel.clients.torch.source import TorchClients as TorchClients
    from umbel.coordinators import Balanced as Balanced
    from umbel.coordinators import Buffered as Buffered
    from umbel.coordinators import Experience as Experience
    from umbel.coordinators import FedAsync as FedAsync
    from umbel.coordinators import Oort as Oort
    from umbel.coordinators import PowerOfChoice as PowerOfChoice
    from umbel.coordinators import Secure as Secure
    from umbel.coordinators import Seen as Seen
    from umbel.coordinators import Selector as Selector
    from umbel.coordinators import ServerConfig as ServerConfig
    from umbel.coordinators import Tiered as Tiered
    from umbel.coordinators import Uniform as Uniform
    from umbel.coordinators import Weighted as Weighted
    from umbel.errors import (
        ClientError as ClientError,
    )
    from umbel.errors import (
        ConfigError as ConfigError,
    )
    from umbel.errors import (
        NotSupported as NotSupported,
    )
    from umbel.errors import (
        RoundError as RoundError,
    )
    from umbel.errors import (
        StoreError as StoreError,
    )
    from umbel.errors import (
        TooFewClients as TooFewClients,
    )
    from umbel.errors import (
        UmbelError as UmbelError,
    )
    from umbel.local import Correction as Correction
    from umbel.message import Context as Context
    from umbel.optimizers import adagrad as adagrad
    from umbel.optimizers import adam as adam
    from umbel.optimizers import momentum as momentum
    from umbel.optimizers import sgd as sgd
    from umbel.optimizers import yogi as yogi
    from umbel.privacy.adaptive import AdaptiveClip as AdaptiveClip
    from umbel.privacy.ckks.parameters import ckks as ckks
    from umbel.privacy.plan import PrivacyPlan as PrivacyPlan
    from umbel.reducers import Bucketing as Bucketing
    from umbel.reducers import Bulyan as Bulyan
    from umbel.reducers import CenteredClipping as CenteredClipping
    from umbel.reducers import ClippedMean as ClippedMean
    from umbel.reducers import FLTrust as FLTrust
    from umbel.reducers import FoolsGold as FoolsGold
    from umbel.reducers import GeometricMedian as GeometricMedian
    from umbel.reducers import Krum as Krum
    from umbel.reducers import Mean as Mean
    from umbel.reducers import Median as Median
    from umbel.reducers import MultiKrum as MultiKrum
    from umbel.reducers import NearestNeighbourMixing as NearestNeighbourMixing
    from umbel.reducers import TrimmedMean as TrimmedMean
    from umbel.runtimes.cluster import Cluster as Cluster
    from umbel.runtimes.forgetting.forget import Forgotten as Forgotten
    from umbel.runtimes.forgetting.forget import forget as forget
    from umbel.runtimes.history import History as History
    from umbel.runtimes.run import Run as Run
    from umbel.runtimes.simulate import simulate as simulate
    from umbel.runtimes.sweep import PointResult as PointResult
    from umbel.runtimes.sweep import Range as Range
    from umbel.runtimes.sweep import Sweep as Sweep
    from umbel.runtimes.sweep import SweepRun as SweepRun
    from umbel.runtimes.sweep import sweep as sweep
    from umbel.runtimes.system import (
        Always as Always,
    )
    from umbel.runtimes.system import (
        Diurnal as Diurnal,
    )
    from umbel.runtimes.system import (
        Empirical as Empirical,
    )
    from umbel.runtimes.system import (
        HalfNormal as HalfNormal,
    )
    from umbel.runtimes.system import (
        LogNormal as LogNormal,
    )
    from umbel.runtimes.system import (
        OnOff as OnOff,
    )
    from umbel.runtimes.system import (
        Pareto as Pareto,
    )
    from umbel.runtimes.system import (
        SystemModel as SystemModel,
    )
    from umbel.runtimes.system import (
        Trace as Trace,
    )
    from umbel.runtimes.system import (
        Zipf as Zipf,
    )
    from umbel.runtimes.worth.contributions import contributions as contributions
    from umbel.runtimes.worth.result import ClientValue as ClientValue
    from umbel.runtimes.worth.result import Contributions as Contributions
    from umbel.stores import MemoryStore as MemoryStore
    from umbel.stores import SQLiteStore as SQLiteStore
    from umbel.strategies import (
        FedAdagrad as FedAdagrad,
    )
    from umbel.strategies import (
        FedAdam as FedAdam,
    )
    from umbel.strategies import (
        FedAvg as FedAvg,
    )
    from umbel.strategies import (
        FedAvgM as FedAvgM,
    )
    from umbel.strategies import (
        FedDyn as FedDyn,
    )
    from umbel.strategies import (
        FedNova as FedNova,
    )
    from umbel.strategies import (
        FedProx as FedProx,
    )
    from umbel.strategies import (
        FedSGD as FedSGD,
    )
    from umbel.strategies import (
        FedYogi as FedYogi,
    )
    from umbel.strategies import (
        QFedAvg as QFedAvg,
    )
    from umbel.strategies import (
        Scaffold as Scaffold,
    )
    from umbel.strategy import State as State
    from umbel.strategy import Strategy as Strategy
