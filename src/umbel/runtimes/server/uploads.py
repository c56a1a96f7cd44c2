"""`Uploads`: which announced answers may come now, so that memory holds and nobody is kept waiting by another one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from umbel.errors import StoreError, UmbelError
from umbel.runtimes.server.peers import Lead, Node
from umbel.wire.channel import Incoming

NOT_WANTED = "this answer is no longer wanted"
LOOK_EVERY_S = 10.0
LEAST_PROGRESS_BYTES = 64 * 1024


@final
@dataclass(eq=False)
class _Held:
    node: Node
    message: Incoming
    seen: int = 0


@final
class Uploads:
    """The answers that are announced, under way, or here and not folded yet.

    At most `at_once` have room, of each node one; the others wait in the order in which they came. While one waits,
    an upload that makes no progress is sent to the end of the line.

    Args:
        at_once: how many have room at a time.
        lead_of: the run that an answer is for, if it is there and the node takes part.
        is_here: whether a node is still connected.
    """

    def __init__(
        self, at_once: int, lead_of: Callable[[Node, str], Lead | None], is_here: Callable[[Node], bool]
    ) -> None:
        self._at_once, self._lead_of, self._is_here = at_once, lead_of, is_here
        self._tokens = 0
        self._held: dict[int, _Held] = {}
        self._waiting: deque[tuple[Node, Incoming]] = deque()
        self._broken_off: OrderedDict[tuple[str, bytes], Incoming] = OrderedDict()
        self._look: asyncio.TimerHandle | None = None

    def announced(self, node: Node, message: Incoming) -> None:
        """An answer could come."""
        turn = _turn(message)
        if any(owner is node and _turn(other) == turn for owner, other in self._coming()):
            node.stream.channel.refuse(message, "an answer to this ask is on its way already")
            return
        self._waiting.append((node, message))
        self.grant()

    def _coming(self) -> list[tuple[Node, Incoming]]:
        return [*self._waiting, *((held.node, held.message) for held in self._held.values())]

    def grant(self) -> None:
        """Let the next ones come, as long as there is room."""
        while len(self._held) < self._at_once and (place := self._next()) is not None:
            node, message = self._waiting[place]
            del self._waiting[place]
            if not self._is_here(node):
                continue
            lead = self._lead_of(node, message.run)
            if lead is None or not lead.expects(node, message.round, message.attempt):
                node.stream.channel.refuse(message, NOT_WANTED)
            else:
                self._take(lead, node, message)
            node.stream.pump()
        if self._waiting and self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_again)

    def _next(self) -> int | None:
        """The first in line whose node has no upload yet."""
        busy = {held.node.name for held in self._held.values()}
        return next((place for place, (node, _) in enumerate(self._waiting) if node.name not in busy), None)

    def _take(self, lead: Lead, node: Node, message: Incoming) -> None:
        before = self._broken_off.pop((node.name, message.digest), None)
        try:
            if before is not None and before.buffer is not None and before.size == message.size:
                buffer, got = before.buffer, message.got_of(before)
            else:
                buffer, got = lead.room(message.size), 0
        except StoreError as error:
            node.stream.channel.refuse(message, "the server has no room for it")
            lead.broken(error)
            return
        except UmbelError as error:
            node.stream.channel.refuse(message, str(error))
            lead.spoiled(node, message.round, message.attempt, str(error))
            return
        self._tokens += 1
        self._held[self._tokens] = _Held(node, message, got)
        node.stream.channel.accept(message, buffer, got=got)

    def _look_again(self) -> None:
        """Others wait: who does not move makes room for them."""
        self._look = None
        for token, held in list(self._held.items()):
            message = held.message
            moved, held.seen = message.got - held.seen, message.got
            if message.complete or moved >= LEAST_PROGRESS_BYTES or not self._waiting:
                continue
            del self._held[token]
            held.node.stream.channel.refuse(message, "it came no further while others waited; it is asked for again")
            held.node.stream.pump()
            lead = self._lead_of(held.node, message.run)
            if lead is not None:
                lead.stalled(held.node, message.round, message.attempt)
        self.grant()

    def arriving(self, run: str, client: str) -> tuple[bool, int]:
        """Whether an answer of a node waits here for room, and how many bytes of those that do not have come."""
        waits = any(owner.name == client and message.run == run for owner, message in self._waiting)
        held = (h.message for h in self._held.values() if h.node.name == client and h.message.run == run)
        return waits, sum(1 + message.got for message in held)

    def token_of(self, message: Incoming) -> int:
        """What stands for the bytes of a message that has room; 0 if it came without."""
        return next((token for token, held in self._held.items() if held.message is message), 0)

    def release(self, token: int) -> None:
        """The bytes are no longer needed."""
        if self._held.pop(token, None) is not None:
            self.grant()

    def withdrawn(self, message: Incoming) -> None:
        """A message does not come: it makes room for the next."""
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not message)
        self.release(self.token_of(message))

    def let_go(self, node: Node, turn: tuple[str, int, int]) -> None:
        """Take no more of an answer that was called off: a slow one would keep its room from other runs' answers."""
        for owner, message in self._coming():
            if owner is node and _turn(message) == turn and not message.complete:
                node.stream.channel.refuse(message, NOT_WANTED)
                self.withdrawn(message)
        node.stream.pump()

    def ended(self, run: str) -> None:
        """A run is over. One that failed may not have folded what had come: that keeps no room either."""
        for node, message in self._coming():
            if message.run == run:
                self.let_go(node, _turn(message))
                self.withdrawn(message)

    def gone(self, node: Node) -> None:
        """A node's stream has ended; what came is kept for a while, as after a reconnection the rest is enough."""
        for token, held in list(self._held.items()):
            if held.node is node and not held.message.complete:
                del self._held[token]
                self._broken_off[node.name, held.message.digest] = held.message
        while len(self._broken_off) > self._at_once:
            self._broken_off.popitem(last=False)
        self.grant()

    def close(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()


def _turn(message: Incoming) -> tuple[str, int, int]:
    return message.run, message.round, message.attempt
