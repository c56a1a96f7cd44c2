"""Join a Ray cluster, or start one on this machine."""

from __future__ import annotations

import logging
import socket
from typing import Any

from umbel.errors import EngineError
from umbel.runtimes.ray.library import RayError, ray

ANSWERS_WITHIN_S = 10.0


def join(address: str | None, processors: int | None) -> bool:
    """Make this process part of a cluster; returns whether it was not before.

    Args:
        address: as in `Cluster`.
        processors: of a cluster that is started here; None takes those of this machine.

    Raises:
        EngineError: there is no such cluster, or Ray cannot be started.
    """
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"address": address or "local", "logging_level": logging.WARNING}
    if address is None:
        options |= {"include_dashboard": False, "num_cpus": processors}
    try:
        _knock(address)
        ray.init(**options)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0] if text else 'no reason given'}"
        raise EngineError(_no_cluster(address, reason)) from error
    return True


def _knock(address: str | None) -> None:
    """Look whether anybody answers at "host:port": Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN_S).close()


def _no_cluster(address: str | None, reason: str) -> str:
    if address is None:
        return f"Ray cannot be started on this machine ({reason})"
    return (
        f"the cluster {address!r} cannot be joined ({reason}); start it with `ray start --head`, or leave the address "
        "out to use this machine alone"
    )
