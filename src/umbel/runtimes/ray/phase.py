"""One phase on the cluster: hand out calls, hear what comes back, ask again what was lost, add it all up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, final

from umbel.errors import EngineError, NotSupported
from umbel.message import Ask, Receipt
from umbel.runtimes.engine import Progress
from umbel.runtimes.program import Program
from umbel.runtimes.ray.deal import Deal
from umbel.runtimes.ray.experience import Experience
from umbel.runtimes.ray.fleet import Fleet, took_its_actor_along
from umbel.runtimes.ray.library import OutOfMemory, RayError, TaskError, ray
from umbel.runtimes.ray.node import Node, Sent
from umbel.runtimes.ray.resident import Answer, Call
from umbel.runtimes.ray.sums import Part, gathered
from umbel.runtimes.tally import Tally

DEATHS_PER_CLIENT = 2
TOLD_EVERY_S = 0.2
WAIT_S = 1.0


@final
class Phase:
    """The asks of one `play` and what became of them."""

    def __init__(
        self,
        program: Program,
        fleet: Fleet,
        experience: Experience,
        task: Any,
        asks: Sequence[Ask],
        states: Mapping[str, bytes],
        progress: Progress | None,
    ) -> None:
        self._program, self._fleet, self._experience = program, fleet, experience
        self._task, self._states, self._progress = task, states, progress
        self._kind, self._count = asks[0].kind, len(asks)
        self._deal = Deal(experience.works(asks))
        self._parts: list[Part] = []
        self._deaths: dict[str, int] = {}
        self._failed: list[Receipt] = []
        self._looked_s, self._told = 0.0, 0

    def play(self) -> Tally:
        """Raises as `Engine.play`."""
        total = Tally()
        while self._deal:
            self._play_all()
            tally, lost = gathered(self._program, self._parts, self._fleet.nodes)
            total.absorb(tally)
            self._parts.clear()
            for part in lost:
                self._deal.put_back(part.asks)
        for receipt in self._failed:
            total.receipts.append(receipt)
        return total

    def _play_all(self) -> None:
        while self._deal or any(node.sent for node in self._fleet.nodes.values()):
            if self._deal:
                self._fleet.gather()
                self._fleet.check()
                self._hand_out()
            self._listen()

    def _hand_out(self) -> None:
        nodes = list(self._fleet.nodes.values())
        paces = self._experience.paces(self._kind, [node for node in nodes if node.counts])
        for node in nodes:
            call = self._deal.next(node.id, paces, node.workers) if node.idle and self._deal else []
            if call:
                told = Call.of([ask for ask, _ in call], self._states)
                note, sums = node.actor.play.options(num_returns=2).remote(self._task, told)
                node.sent, node.done = Sent(call, note, sums, time.monotonic()), 0

    def _listen(self) -> None:
        nodes = list(self._fleet.nodes.values())
        refs = [ref for node in nodes for ref in node.awaited()]
        if refs:
            ray.wait(refs, num_returns=1, timeout=WAIT_S if self._progress is None else TOLD_EVERY_S)
            came = frozenset(ray.wait(refs, num_returns=len(refs), timeout=0)[0])
            for node in nodes:
                self._hear(node, came)
        else:
            time.sleep(WAIT_S)  # all nodes are gone: others may join
        self._tell()

    def _hear(self, node: Node, came: frozenset[Any]) -> None:
        if node.starting is not None and node.starting in came:
            self._fleet.settle(node)
        if node.look is not None and node.look in came:
            self._take_look(node)
        if node.sent is not None and node.sent.note in came:
            self._take(node, node.sent)

    def _take(self, node: Node, sent: Sent) -> None:
        try:
            answer: Answer = ray.get(sent.note)
        except TaskError as error:
            # Nothing was lost: this is a fault of ours, which would come again.
            raise EngineError(f"node {node.address} could not go on:\n{error}") from error
        except RayError as error:
            self._lost(node, sent, error)
            return
        if answer.refused is not None:
            raise NotSupported(answer.refused)
        if answer.broken is not None:
            raise EngineError(f"node {node.address} could not go on: {answer.broken}")
        assert answer.note is not None
        node.sent, node.done = None, 0
        self._experience.played(node.id, self._kind, sent.work, time.monotonic() - sent.at_s)
        note = Tally.restore(self._program.strategy.reducer, *answer.note)
        self._parts.append(Part(sent.asks, note, sent.sums if answer.summed else None, node.id))

    def _lost(self, node: Node, sent: Sent, error: Exception) -> None:
        """The node, or its actor alone, is gone with all that was in play."""
        blamed = took_its_actor_along(error, node)
        self._fleet.forget(node)
        self._fleet.gather(now=True)
        if not blamed:
            self._deal.put_back(sent.asks)
        elif len(sent.asks) > 1:
            self._deal.put_back(sent.asks, most=len(sent.asks) // 2)
        else:
            self._blame(sent.asks[0], "the node was out of memory" if isinstance(error, OutOfMemory) else "it ended")

    def _blame(self, entry: tuple[Ask, float], how: str) -> None:
        ask = entry[0]
        self._deaths[ask.client] = self._deaths.get(ask.client, 0) + 1
        if self._deaths[ask.client] < DEATHS_PER_CLIENT:
            self._deal.put_back([entry], most=1)
            return
        reason = f"its node's actor died twice while it was alone there ({how})"
        self._failed.append(Receipt(ask.client, ask.task.round, ask.attempt, "failed", reason=reason))

    def _take_look(self, node: Node) -> None:
        with suppress(RayError):  # the call itself will say that the node is lost
            said: int = ray.get(node.look)
            # What was said of the call before may come only now.
            node.done = 0 if node.sent is None else min(said, len(node.sent.asks))
        node.look = None

    def _tell(self) -> None:
        """Ask the nodes how far they are, and say what they said last."""
        playing = [node for node in self._fleet.nodes.values() if node.sent is not None]
        if self._progress is None or (playing and time.monotonic() - self._looked_s < TOLD_EVERY_S):
            return
        self._looked_s = time.monotonic()
        for node in playing:
            node.look = node.look or node.actor.done.remote()
        done = sum(len(part.asks) for part in self._parts) + len(self._failed) + sum(node.done for node in playing)
        self._told = min(max(done, self._told), self._count)
        self._progress(self._told, self._count)
