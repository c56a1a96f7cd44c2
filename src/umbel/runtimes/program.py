"""What an engine needs to play a client: how to build it, the strategy, and the numbers all clients share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, final

from umbel.clients import as_client
from umbel.errors import ConfigError
from umbel.local_client import LocalClient
from umbel.message import Ask, ClientState, Context
from umbel.randomness import derive, seed_process
from umbel.runtimes.memory import read_memory
from umbel.strategy import Strategy

ClientFn: TypeAlias = Callable[..., Any]


@final
@dataclass(frozen=True)
class Program:
    """The clients' side of a run. `client_fn` takes a context, a partition index (`int` or `str`) or nothing.

    `partition` is the one partition that there is on a node; None lets the client's id name it. `hears` names the
    metric of `fit` that receipts tell the run's selector; None tells it nothing. `devices` are those that workers
    share; without any they are all on `device`.
    """

    client_fn: ClientFn
    strategy: Strategy
    seed: int
    num_clients: int
    config: dict[str, Any]
    device: str = "cpu"
    threads: int | None = 1
    per_client_metrics: bool = False
    partition: int | None = None
    hears: str | None = None
    devices: tuple[str, ...] = ()

    def at(self, worker: int) -> Program:
        """The program as a worker of this number has it: workers take the devices in turn."""
        return replace(self, device=self.devices[worker % len(self.devices)]) if self.devices else self

    def partition_of(self, client: str) -> int:
        """The partition of a client: the program's one, else what its id says."""
        if self.partition is not None:
            return self.partition
        return int(client) if client.isdecimal() else 0

    def context(self, ask: Ask, memory: bytes | None) -> Context:
        """The context of one turn; it depends on the ask and the memory alone."""
        key = turn_key(self.seed, ask) if ask.key is None else ask.key
        return Context(
            client=ask.client,
            partition_id=self.partition_of(ask.client),
            num_partitions=self.num_clients,
            round=ask.task.round,
            config={**self.config, **ask.task.config},
            device=self.device,
            memory=ClientState() if memory is None else read_memory(memory),
            key=key,
            share=ask.share,
        )

    def build(self, ctx: Context) -> LocalClient:
        """The client of `ctx`, made by the user's `client_fn` with the process's generators seeded."""
        seed_process(ctx.key)
        wants = self.wants
        if wants == "context":
            return as_client(self.client_fn(ctx))
        if wants == "nothing":
            return as_client(self.client_fn())
        return as_client(self.client_fn(ctx.client if wants == "name" else ctx.partition_id))

    @cached_property
    def wants(self) -> Literal["context", "nothing", "name", "index"]:
        return _wants(self.client_fn)


def turn_key(seed: int, ask: Ask) -> int:
    """The root of a client's randomness for one turn: the same for a virtual client and a node of its name."""
    return derive(seed, "client", ask.kind, ask.task.round, ask.client)


def _wants(function: ClientFn) -> Literal["context", "nothing", "name", "index"]:
    """What `client_fn` wants: the context, or as older scripts have it the partition as `cid: str` or an index."""
    try:
        places = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
        ]
    except (TypeError, ValueError):
        return "context"
    if not places:
        return "nothing"
    first = places[0]
    required = [p for p in places if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    if len(required) > 1:
        raise ConfigError(f"client_fn takes {len(required)} arguments; it is called with one, the context")
    if first.annotation in (int, "int"):
        return "index"
    if first.annotation in (str, "str") or first.name == "cid":
        return "name"
    if first.name == "partition_id":
        return "index"
    return "context"
