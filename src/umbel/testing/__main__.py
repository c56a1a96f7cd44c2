"""`python -m umbel.testing`: the kits over everything that is registered."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

import umbel.reducers as reducers
import umbel.strategies as strategies
from umbel.stores import MemoryStore
from umbel.testing import check_engine, check_reducer, check_store, check_strategy, check_transport
from umbel.transports import Transport, transport_for
from umbel.transports.choose import GROUP
from umbel.transports.memory import MemoryTransport


def registered() -> Iterator[tuple[str, Callable[[Any], None], Callable[[], Any]]]:
    """(name, kit, maker) of every part: ours, then those of entry points."""
    for name in strategies.__all__:
        if name != "Averaging":
            yield f"strategy {name}", check_strategy, getattr(strategies, name)
    for reducer in _reducers():
        yield f"reducer {reducer!r}", check_reducer, lambda reducer=reducer: reducer
    yield "store MemoryStore", lambda make: check_store(make), lambda: MemoryStore
    yield "engine pool", lambda name: check_engine(name, 2), lambda: "pool"
    if find_spec("ray") is not None:
        yield "engine ray", lambda name: check_engine(name, 2), lambda: "ray"
    for group, kit in (("strategies", check_strategy), ("reducers", check_reducer)):
        for point in entry_points(group=f"umbel.{group}"):
            yield f"{group} {point.name} ({point.value})", kit, lambda point=point: point.load()()
    yield "transport memory", lambda make: check_transport(make, sockets=False), lambda: MemoryTransport
    for scheme in _schemes():
        yield f"transport {scheme}", check_transport, lambda scheme=scheme: partial(_transport, scheme)


def _reducers() -> Iterator[reducers.Reducer]:
    yield from (reducers.Mean(), reducers.Median(), reducers.ClippedMean(), reducers.CenteredClipping())
    yield from (reducers.TrimmedMean(f=2), reducers.Krum(f=2), reducers.MultiKrum(f=2), reducers.Bulyan(f=1))
    yield from (reducers.GeometricMedian(), reducers.FoolsGold())
    yield from (reducers.NearestNeighbourMixing(reducers.Krum(f=2)), reducers.Bucketing(reducers.Krum(f=2)))


def _schemes() -> Iterator[str]:
    yield "tcp"
    for scheme, library in (("grpc", "grpc"), ("ws", "websockets")):
        if find_spec(library) is not None:
            yield scheme
    yield from (point.name for point in entry_points(group=GROUP))


def _transport(scheme: str) -> Transport:
    return transport_for(f"{scheme}://")[0]


def main() -> int:
    """Run all kits; the exit code is the number of parts that failed."""
    failed = 0
    for name, kit, make in registered():
        try:
            kit(make())
        except Exception as error:
            failed += 1
            sys.stdout.write(f"FAILED  {name}: {type(error).__name__}: {error}\n")
        else:
            sys.stdout.write(f"passed  {name}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
