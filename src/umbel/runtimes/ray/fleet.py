"""The fleet: one actor on every node of the cluster that has what it needs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, final

from umbel.errors import EngineError
from umbel.runtimes.cluster import Cluster
from umbel.runtimes.ray.joining import join
from umbel.runtimes.ray.library import ActorDied, OutOfMemory, RayError, pinned, ray
from umbel.runtimes.ray.node import Node
from umbel.runtimes.ray.resident import Errand, Resident

START_S = 120.0
"""How long to wait for a first node that is free."""
LOOK_EVERY_S = 5.0
"""How often to look for nodes that have joined."""
STARTS = 3
"""How often an actor may fail to start on a node before that node is left alone."""
CALLS_AT_A_TIME = 4
"""One is played; the others ask how far it is or merge sums."""


@final
class Fleet:
    """Starts actors, replaces those that are lost, and ends all of them."""

    def __init__(self, cluster: Cluster, errand: Errand, workers: int | None, threads: int) -> None:
        self.nodes: dict[str, Node] = {}
        self._cluster, self._workers, self._threads = cluster, workers, threads
        self._errand: Any = errand
        self._joined = self._ours = False
        self._looked_s = self._waiting_s = 0.0
        self._failed: dict[str, int] = {}
        self._lost: set[str] = set()
        self._why = ""

    def gather(self, *, now: bool = False) -> None:
        """Start an actor on each node that has none, and forget nodes that are gone.

        Args:
            now: look again although that was done a moment ago.

        Raises:
            EngineError: the cluster cannot be joined.
        """
        if not self._joined:
            self._join()
        elif not now and time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        alive: dict[str, Mapping[str, Any]] = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for node in [node for node in self.nodes.values() if node.id not in alive and node.sent is None]:
            self.forget(node)
        for name, about in alive.items():
            if name not in self.nodes and self._failed.get(name, 0) < STARTS:
                self._start(name, about)

    def _join(self) -> None:
        processors = None if self._workers is None else self._workers * self._threads
        self._ours = join(self._cluster.address, processors)
        self._joined = True
        self._errand = ray.put(self._errand)

    def _start(self, name: str, about: Mapping[str, Any]) -> None:
        there: Mapping[str, float] = about["Resources"]
        room = int(there.get("CPU", 0)) // self._threads
        workers = min(self._workers or room, room)
        gpus = self._cluster.gpus_per_node
        if workers < 1 or there.get("GPU", 0) < gpus:
            return
        actor = (
            ray.remote(Resident)
            .options(
                num_cpus=workers * self._threads,
                num_gpus=gpus,
                max_concurrency=CALLS_AT_A_TIME,
                scheduling_strategy=pinned(node_id=name, soft=False),
            )
            .remote(self._errand, workers)
        )
        address = str(about["NodeManagerAddress"])
        self.nodes[name] = Node(name, address, workers, actor, actor.ready.remote(), name in self._lost)

    def settle(self, node: Node) -> None:
        """Look how the start of a node's actor went, now that it is over."""
        failed = self._failed.get(node.id, 0)
        try:
            why: str | None = ray.get(node.starting)
        except RayError as error:
            self._failed[node.id], why = failed + 1, _last_line(error)
        else:
            # What it says itself it would say again.
            self._failed[node.id] = 0 if why is None else STARTS
        node.starting = None
        if why is not None:
            self._why = f"node {node.address}: {why}"
            self.forget(node)
            self.gather(now=True)

    def forget(self, node: Node) -> None:
        """Let go of a node whose actor is lost, or is to be: it ends for certain, so that none is there twice."""
        ray.kill(node.actor)
        self._lost.add(node.id)
        self.nodes.pop(node.id, None)

    def check(self) -> None:
        """Wait for a free node no longer than makes sense.

        Raises:
            EngineError: there is none that could play, or none came within `START_S`.
        """
        if any(node.starting is None for node in self.nodes.values()):
            self._waiting_s = 0.0
            return
        if not self.nodes and STARTS in self._failed.values():
            raise EngineError(f"no node of the cluster can play; {self._why}")
        if not self.nodes and not self._lost:
            raise EngineError(f"no node of the cluster has {self._needs()}; take less of each, or add one")
        self._waiting_s = self._waiting_s or time.monotonic()
        if time.monotonic() - self._waiting_s > START_S:
            raise EngineError(
                f"no node of the cluster had {self._needs()} free within {START_S:g} s; look with `ray status` who "
                "uses them, or take less of each with workers="
            )

    def _needs(self) -> str:
        gpus = f" and {self._cluster.gpus_per_node:g} GPUs" if self._cluster.gpus_per_node else ""
        return f"{self._threads * (self._workers or 1)} processor(s){gpus}"

    def close(self) -> None:
        """End all actors, and the cluster if it was started here."""
        if not self._joined or not ray.is_initialized():
            return
        self._joined = False
        gone: list[Any] = []
        for node in list(self.nodes.values()):
            self.forget(node)
            gone.append(node.actor.ready.remote())
        # An actor that is gone answers with an error; until then it might still hold its processors.
        if gone:
            ray.wait(gone, num_returns=len(gone), timeout=5)
        if self._ours:
            ray.shutdown()


def took_its_actor_along(error: Exception, node: Node) -> bool:
    """Whether an actor ended on a node that lives on; then what it played may have been the reason."""
    if not isinstance(error, (ActorDied, OutOfMemory)):
        return False
    return any(about["NodeID"] == node.id and about["Alive"] for about in ray.nodes())


def _last_line(error: Exception) -> str:
    """What was raised at the other end: Ray appends its traceback, whose last line says it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
