"""Canaries that go the whole way: a client's training, the sum (a secure one, too), the server's step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.clients.gradient import GradientClient
from umbel.coordinators import Secure
from umbel.message import Ask, Context, Task, Update
from umbel.privacy.calibration import Answering, Canaries, Release
from umbel.privacy.private import Private
from umbel.reducers import Reduced, Reduction
from umbel.strategy import Strategy


@final
@dataclass(frozen=True)
class Path:
    """How canaries go through a strategy.

    Args:
        strategy: a private one, or one with a fault.
        private: what is right about it.
        secure: of the run's secure sums; None sums plainly.
    """

    strategy: Strategy
    private: Private
    secure: Secure | None

    def release(self, canaries: Canaries) -> Release:
        def released(answering: Answering) -> Any:
            state = self.strategy.init(Arrays.of({"w": np.zeros(canaries.size)}))
            task = self.strategy.task(state, 1)
            updates = list(self._updates(canaries, answering, task))
            sums = self._plain(updates, task) if self.secure is None else self._secure(updates, task, self.secure)
            return self.strategy.step(state, Reduction(sums, canaries.count)).params["w"]

        return released

    def _updates(self, canaries: Canaries, answering: Answering, task: Task) -> Iterator[Update]:
        numbers = np.flatnonzero(answering)
        if self.private.plan.unit == "example":
            # One client has them all: what is bounded is each of its examples.
            yield self._trained(task, "0", canaries, numbers)
            return
        for number in numbers:
            weight = int(10 * self.private.weight_cap) + 1
            yield self._trained(task, str(number), canaries, np.broadcast_to(number, (weight,)))

    def _trained(self, task: Task, name: str, canaries: Canaries, data: NDArray[np.integer]) -> Update:
        def gradient(params: Mapping[str, Any], rows: NDArray[np.integer]) -> tuple[float, Mapping[str, Any]]:
            return 0.0, {"w": -canaries.change(int(rows[0]))}

        client = GradientClient(gradient, {"w": np.zeros(canaries.size)}, data, lr=1.0, shuffle=False)
        ctx = Context(client=name, partition_id=0, num_partitions=canaries.count, round=1)
        return self.strategy.local(Ask(name, "fit", task), client, ctx)[0]

    def _plain(self, updates: list[Update], task: Task) -> Mapping[str, Reduced]:
        total = self.strategy.reducer.start(self.strategy.schema(task, {}))
        for update in updates:
            total.fold(self.strategy.open(update, task, {}))
        return total.result()

    def _secure(self, updates: list[Update], task: Task, settings: Secure) -> Mapping[str, Reduced]:
        """The sum as secure rounds have it: integers modulo 2^32. Masks, which cancel in it, are left out."""
        from umbel.privacy.sa1.encoding import Encoding
        from umbel.privacy.sa1.secured import encoded, opened

        schema = self.strategy.schema(task, {})
        size = sum(expected.size for expected in schema.values())
        encoding = Encoding(
            clip=settings.clip,
            weight_cap=settings.weight_cap,
            clients=max(2, len(updates)),
            size=size,
            groups=len(schema),
            metrics=tuple(settings.metrics),
            metric_clip=settings.metric_clip,
        )
        total = np.zeros(encoding.length, np.uint32)
        for update in updates:
            total += encoded(encoding, update)
        return opened(encoding.decode(total), schema, len(updates)).result()
