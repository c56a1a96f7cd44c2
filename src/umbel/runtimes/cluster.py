"""`Cluster`: which Ray cluster the engine "ray" uses, and what it takes of each node."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from umbel.message import require


@final
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The nodes of the engine "ray".

    Processors are given with `workers` and `threads` of `simulate`: a node plays `workers` clients at a time.

    Args:
        address: "auto" joins the cluster that this machine is part of, "host:port" another; None starts one on this
            machine and ends it after the run. In a process that has called `ray.init` already, that cluster is used.
        gpus_per_node: GPUs, or the fraction of one, that are reserved on each node; at least 0. Nodes that have fewer
            are left out.

    Raises:
        ConfigError: an argument is none of these.

    Example:
        >>> Cluster(address="auto", gpus_per_node=0.5)
        Cluster(address='auto', gpus_per_node=0.5)
    """

    address: str | None = None
    gpus_per_node: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.address is None or (isinstance(self.address, str) and self.address != ""),  # pyright: ignore[reportUnnecessaryIsInstance]
            f'address must be "auto", "host:port" or None, got {self.address!r}',
        )
        require(
            isinstance(self.gpus_per_node, (int, float)) and 0 <= self.gpus_per_node < math.inf,  # pyright: ignore[reportUnnecessaryIsInstance]
            f"gpus_per_node must be a number of at least 0, got {self.gpus_per_node!r}",
        )
