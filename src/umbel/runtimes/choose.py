"""Which engine, with how many workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
from umbel.runtimes.cluster import Cluster
from umbel.runtimes.engine import Engine
from umbel.runtimes.pool import PoolEngine
from umbel.runtimes.program import Program
from umbel.runtimes.serial import SerialEngine

ENGINES = ("auto", "serial", "pool", "ray")


def choose(
    engine: str, workers: int | None, config: ServerConfig, num_clients: int, cluster: Cluster | None = None
) -> dict[str, Any]:
    """The engine and its number of workers, as the log keeps them: "auto" takes the pool where it can help.

    Raises:
        ConfigError: there is no such engine, or no such number, or Ray is not installed.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if workers is not None and (not isinstance(workers, int) or workers < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"workers must be a whole number of at least 1 or None, got {workers!r}")
    if cluster is not None and engine != "ray":
        raise ConfigError(f'cluster is for engine="ray", got engine={engine!r}')
    if engine == "ray":
        if find_spec("ray") is None:
            raise ConfigError("engine=\"ray\" needs ray; install it with: pip install 'umbel[ray]'")
        return {"name": engine} if workers is None else {"name": engine, "workers": workers}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cohort = max(config.fraction_fit * num_clients, config.min_fit_clients)
    if engine == "auto":
        engine = "pool" if (workers or cores) > 1 and cohort > 1 and hasattr(os, "fork") else "serial"
    return {"name": engine, "workers": 1 if engine == "serial" else workers or cores}


def start(choice: Mapping[str, Any], program: Program, config: ServerConfig, cluster: Cluster | None = None) -> Engine:
    """The chosen engine."""
    if choice["name"] == "ray":
        from umbel.runtimes.ray import RayEngine

        workers = choice.get("workers")
        return RayEngine(program, cluster=cluster, workers=workers, client_timeout=config.client_timeout)
    if choice["name"] == "serial":
        return SerialEngine(program, client_timeout=config.client_timeout)
    return PoolEngine(program, workers=choice["workers"], client_timeout=config.client_timeout)
