"""Which engine, with how many workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
from umbel.runtimes.engine import Engine
from umbel.runtimes.pool import PoolEngine
from umbel.runtimes.program import Program
from umbel.runtimes.serial import SerialEngine

ENGINES = ("auto", "serial", "pool")


def choose(
    engine: str, workers: int | None, config: ServerConfig, num_clients: int, at_once: int | None = None
) -> dict[str, Any]:
    """The engine and its number of workers, as the log keeps them: "auto" takes the pool where it can help.

    Args:
        at_once: how many clients are played at once; None is the cohort of a round.

    Raises:
        ConfigError: there is no such engine, or no such number.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if workers is not None and (not isinstance(workers, int) or workers < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"workers must be a whole number of at least 1 or None, got {workers!r}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cohort = at_once or max(config.fraction_fit * num_clients, config.min_fit_clients)
    if engine == "auto":
        engine = "pool" if (workers or cores) > 1 and cohort > 1 and hasattr(os, "fork") else "serial"
    return {"name": engine, "workers": 1 if engine == "serial" else workers or cores}


def start(choice: Mapping[str, Any], program: Program, config: ServerConfig) -> Engine:
    """The chosen engine."""
    if choice["name"] == "serial":
        return SerialEngine(program, client_timeout=config.client_timeout)
    return PoolEngine(program, workers=choice["workers"], client_timeout=config.client_timeout)
