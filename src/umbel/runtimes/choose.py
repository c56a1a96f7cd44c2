"""Which engine, with how many workers."""

from __future__ import annotations

import math
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

ENGINES = ("auto", "serial", "pool", "vmap", "ray")
PARTS = 4
SMALLEST, LARGEST = 8, 2048
FULL = 512
"""Of tiny models, whose steps cost about as much by themselves as some hundred clients do in them."""
STACK_BYTES = 24 * 2**20
"""Larger stacks of models no longer fit the caches, and each step waits for memory."""


def choose(
    engine: str,
    workers: int | None,
    config: ServerConfig,
    num_clients: int,
    cluster: Cluster | None = None,
    at_once: int | None = None,
    block: int | None = None,
    model_bytes: int = 1,
) -> dict[str, Any]:
    """The engine, its number of workers and of clients in a block, as the log keeps them.

    "auto" takes the pool where it can help; whether blocks do is seen by a trial before.

    Args:
        at_once: how many clients are played at once; None is the cohort of a round.
        block: how many clients train together; None takes what suits a model of `model_bytes`.

    Raises:
        ConfigError: there is no such engine, or no such number, or Ray is not installed.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    whole = isinstance(workers, int) and not isinstance(workers, bool)
    if workers is not None and (not whole or workers < 1):
        raise ConfigError(f"workers must be a whole number of at least 1 or None, got {workers!r}")
    if cluster is not None and not isinstance(cluster, Cluster):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"cluster must be a Cluster or None, got {cluster!r}; try fl.Cluster(address={cluster!r})")
    if cluster is not None and engine != "ray":
        raise ConfigError(f'cluster is for engine="ray", got engine={engine!r}')
    if block is not None and (not isinstance(block, int) or block < 2):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"block must be a whole number of at least 2 or None, got {block!r}")
    if block is not None and engine != "vmap":
        raise ConfigError(f'block is for engine="vmap", got engine={engine!r}')
    if engine == "ray":
        if find_spec("ray") is None:
            raise ConfigError("engine=\"ray\" needs ray; install it with: pip install 'umbel[ray]'")
        return {"name": engine} if workers is None else {"name": engine, "workers": workers}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cohort = cohort_size(config, num_clients, at_once)
    many = workers or (cores if hasattr(os, "fork") else 1)
    if engine == "auto":
        engine = "pool" if many > 1 and cohort > 1 else "serial"
    if engine == "vmap":
        if config.client_timeout is not None:
            raise ConfigError("client_timeout is for clients that train one by one; drop it, or take the engine pool")
        block = block or block_size(model_bytes, cohort, cores)
        return {"name": engine, "workers": min(many, max(1, -(-cohort // block))), "block": block}
    return {"name": engine, "workers": 1 if engine == "serial" else workers or cores}


def cohort_size(config: ServerConfig, num_clients: int, at_once: int | None) -> int:
    """How many clients are played at once."""
    return min(num_clients, at_once or max(int(config.fraction_fit * num_clients), config.min_fit_clients))


def block_size(model_bytes: int, cohort: int, cores: int) -> int:
    """How many clients train together: as many as caches hold, and so few that all cores have some, and twice so that a
    core that is done early finds more, unless blocks were small by that.

    It depends on the machine but not on the number of workers; a run keeps it in its plan.
    """
    share = max(-(-cohort // max(PARTS, 2 * cores)), min(-(-cohort // cores), FULL))
    most = max(SMALLEST, min(share, LARGEST, STACK_BYTES // max(1, model_bytes)))
    # As many blocks for each core: the last one would else keep one busy while the others wait.
    each = math.ceil(math.ceil(cohort / most) / cores)
    return max(SMALLEST, math.ceil(cohort / (each * cores)))


def resumed(
    engine: str, choice: Mapping[str, Any], stored: Mapping[str, Any], block: int | None = None
) -> Mapping[str, Any]:
    """The choice for a run that goes on: clients are put into blocks as before, which the last bits depend on.

    Args:
        engine: what was asked for.
        choice: what would be chosen for a new run.
        stored: the choice of the run's plan.
        block: how many clients were asked to train together, if it was said.

    Raises:
        ConfigError: it had blocks and is to have none, or had none and is to have some.
    """
    before, now = stored.get("block", 1), choice.get("block", 1)
    if block is not None and 1 < before != block:
        raise ConfigError(
            f"this run's clients train in blocks of {before}, which block={block} would change; leave it out"
        )
    if before == now or (before > 1 and choice["name"] == "vmap"):
        return {**choice, "block": before} if before > 1 else choice
    raise ConfigError(
        f"this run's clients train {f'in blocks of {before}' if before > 1 else 'one by one'}, which engine={engine!r} "
        f"would change; resume it with engine={'vmap' if before > 1 else 'pool'!r}"
    )


def start(choice: Mapping[str, Any], program: Program, config: ServerConfig, cluster: Cluster | None = None) -> Engine:
    """The chosen engine."""
    timeout = config.client_timeout
    if choice["name"] == "ray":
        from umbel.runtimes.ray import RayEngine

        return RayEngine(program, cluster=cluster, workers=choice.get("workers"), client_timeout=timeout)
    block = choice.get("block", 1)
    if choice["workers"] == 1 and choice["name"] != "pool":
        return SerialEngine(program, client_timeout=timeout, block=block)
    return PoolEngine(program, workers=choice["workers"], client_timeout=timeout, block=block)
