"""`Leader`: leads one run over the nodes that a desk knows. The run's arithmetic works off the event loop."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar, final
from weakref import WeakKeyDictionary

from umbel.arrays import Arrays
from umbel.errors import ArraysError, ClientError, ConfigError, ProtocolError, RoundError, StoreError, UmbelError
from umbel.message import Task, Update, validate
from umbel.runtimes.mail import Answer
from umbel.runtimes.node.host import PARAMETERS
from umbel.runtimes.players import Interrupted, Steps
from umbel.runtimes.probe import named_like, not_empty
from umbel.runtimes.room import fresh
from umbel.runtimes.server.desk import Desk
from umbel.runtimes.server.events import (
    Broken,
    Came,
    Command,
    Deliver,
    Dismiss,
    Joined,
    Left,
    Moved,
    Spoiled,
    Stalled,
    Stopped,
)
from umbel.runtimes.server.nodes import Nodes
from umbel.runtimes.server.peers import Node
from umbel.runtimes.server.players import NodePlayers
from umbel.runtimes.server.spool import Sheet
from umbel.runtimes.session import Session
from umbel.schema import ArraySpec, Schema
from umbel.wire.target import Target

Result = TypeVar("Result")
Offload: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
DONE = object()
SPOOLED_LEAST_BYTES = 2**16
PATIENCE_S = 60.0
TOLD_REFUSALS = 3


@final
class Leader:
    """One run on a server.

    Args:
        run: its id.
        plan: what nodes are told of it.
        desk: where nodes arrive.
        nodes: kept up to date with who is ready for the run.
        offload: runs a function where it does not hold up the event loop.
        allowed: whether a node may take part.
        why_not: says of an allowed node why it may not take part all the same, in a sentence for both sides; None
            lets it. It is asked once for each connection.
        arrivals_per_s: how many devices should check in per second; 0 where the run takes in none.
    """

    def __init__(
        self,
        run: str,
        plan: Mapping[str, Any],
        desk: Desk,
        nodes: Nodes,
        *,
        offload: Offload,
        allowed: Callable[[Node], bool] = lambda node: True,
        why_not: Callable[[Node], str | None] = lambda node: None,
        say: Callable[[str], None] = lambda text: None,
        arrivals_per_s: float = 0.0,
    ) -> None:
        self.run, self.nodes = run, nodes
        self._plan, self._desk, self._offload = plan, desk, offload
        self._allowed, self._why_not, self._say = allowed, why_not, say
        self.refusals: str | None = None
        """Which nodes refuse the run and why, where all that are there have decided and some do."""
        self._judged: WeakKeyDictionary[Node, str | None] = WeakKeyDictionary()
        self._players: NodePlayers | None = None
        self._inbox: deque[Any] = deque()
        self._bell = asyncio.Event()
        self._evaluators: set[str] = set()
        self._schemas: dict[str, Schema | None] = {}
        self._there: dict[str, Node] = {}
        self._arrived: dict[str, int] = {}
        self.arrivals_per_s = arrivals_per_s
        self._invited: set[str] = set()
        """Devices that came for a seat and have not heard yet whether there is one."""
        self._had: set[str] = set()
        """Devices that were asked since they came; they are asked once."""

    # What the desk tells.

    def plan_for(self, node: Node) -> Mapping[str, Any] | None:
        return self._plan if self._allowed(node) and self._refusal(node) is None else None

    def _refusal(self, node: Node) -> str | None:
        """Why a node is not let in, which is said once."""
        if node not in self._judged:
            reason = self._judged[node] = self._why_not(node)
            if reason is not None:
                node.refused[self.run] = reason
                self._say(f"node {node.name} does not take part: {reason}")
        return self._judged[node]

    def invites(self, name: str, *, willing: bool) -> bool:
        """Whether a device that checks in is to stay: for a seat that is free, or with an answer that is wanted."""
        if not self.arrivals_per_s:
            return False
        players = self._players
        if players is not None and players.awaits(name):
            return True
        if not willing:
            return False
        # A run that has no round open yet wants one device that says what its model looks like.
        seats = 1 if players is None else players.seats
        if len(self._invited) >= seats:
            return False
        self._invited.add(name)
        return True

    def is_ready(self, node: Node, answer: Answer) -> None:
        if answer.verdict != "done":
            node.refused[self.run] = answer.reason
            self._invited.discard(node.name)
            self._say(f"node {node.name} does not take part: {answer.reason}")
            self._bell.set()
            return
        try:
            can = {str(name) for name in answer.facts.get("capabilities", ())}
            self._schemas[node.name] = _schema(answer.facts.get("schema"))
        except (ArraysError, TypeError, ValueError, KeyError) as error:
            raise ProtocolError(f"a node describes its model in a way that is none: {error}") from None
        (self._evaluators.add if "evaluate" in can else self._evaluators.discard)(node.name)
        node.ready.add(self.run)
        self._there[node.name] = node
        digest = node.about.card.get("digest")
        cards = {name: card for name, card in self.nodes.cards.items() if name != node.name}
        self.nodes.cards = cards if digest is None else {**cards, node.name: digest}
        self._update()
        self._tell(Joined(node.name))

    def _update(self) -> None:
        self.nodes.names = tuple(sorted(self._there.keys() - self._had))
        self.nodes.evaluators = frozenset(self._evaluators)

    def room(self, nbytes: int) -> Target:
        if self._players is not None and self._players.spools and nbytes > SPOOLED_LEAST_BYTES:
            return Sheet(self._players.memory.place, nbytes)
        return fresh(nbytes)

    def came(self, node: Node, data: Any, token: int) -> None:
        self._tell(Came(node.name, data, token))

    def spoiled(self, node: Node, round: int, attempt: int, reason: str) -> None:
        self._tell(Spoiled(node.name, round, attempt, reason))

    def broken(self, error: StoreError) -> None:
        self._tell(Broken(error))

    def stalled(self, node: Node, round: int, attempt: int) -> None:
        self._tell(Stalled(node.name, round, attempt))

    def left(self, node: Node) -> None:
        self._bell.set()
        self._invited.discard(node.name)
        if self._there.get(node.name) is node:
            del self._there[node.name]
            self._had.discard(node.name)
            self._update()
            self._tell(Left(node.name))

    def expects(self, node: Node, round: int, attempt: int) -> bool:
        return self._players is not None and self._players.expects(node.name, round, attempt)

    @property
    def upload_bytes(self) -> int:
        return 2**50 if self._players is None else self._players.upload_bytes

    def stop(self, reason: str) -> None:
        """End the run; it can be resumed."""
        self._tell(Stopped(reason))

    def _tell(self, event: Any) -> None:
        self._inbox.append(event)
        self._bell.set()

    # What the run does.

    async def initial(
        self, players: NodePlayers, given: Arrays | None, *, least: int = 1, timeout_s: float | None = None
    ) -> tuple[Arrays, str | None]:
        """The model to start from: the given one, named as open clients have it, or a node's own; and which node's.

        A node that does not answer is not waited for alone: another is asked as well, and the first answer counts.

        Args:
            least: how many nodes have to be unable to say before that is the answer.
            timeout_s: how long one may take; None is a minute in which nothing of an answer comes.

        Raises:
            RoundError: the run was stopped meanwhile.
            UmbelError: no node can say.
        """
        unable: dict[str, UmbelError] = {}
        loop = asyncio.get_running_loop()

        def next_client(tried: set[str]) -> str | None:
            return next((name for name in self.nodes.names if name not in unable and name not in tried), None)

        def say(text: str) -> None:
            loop.call_soon_threadsafe(self._say, text)

        while True:
            while (name := next_client(set())) is None:
                if len(unable) >= least:
                    raise UmbelError(f"there are no initial parameters, and {next(iter(unable.values()))}")
                self._look_for_refusals()
                for event in await self._events(players.refused_until(0, self.refusals)):
                    if isinstance(event, Stopped):
                        raise RoundError(0, f"it was not begun: {event.reason}")
            if given is not None:
                return named_like(self._schemas.get(name), given), None
            steps = players.query(
                next_client,
                Task(0, Arrays.of({}), config={"query": PARAMETERS}),
                unable,
                patience_s=timeout_s or PATIENCE_S,
                progress_counts=timeout_s is None,
                say=say,
            )
            try:
                found = await self._follow(players, steps)
            except Interrupted as stopped:
                raise RoundError(0, f"it was not begun: {stopped}") from None
            if found is not None:
                try:
                    return _model(*found), found[0]
                except (ClientError, ConfigError, ProtocolError) as error:
                    unable[found[0]] = error

    async def lead(self, session: Session, players: NodePlayers) -> str:
        """All rounds; returns why the run ended.

        Raises:
            TooFewClients, RoundError, StoreError: as `Session.steps`.
        """
        session.players = players
        players.refusals = lambda: self.refusals
        return await self._follow(players, session.steps())

    async def _follow(self, players: NodePlayers, steps: Steps[Result]) -> Result:
        """Go through steps, waiting where they wait."""
        self._players = players
        events: list[Any] | None = None
        while True:
            self._look_for_refusals()
            outcome, value = await self._offload(lambda events=events: _advance(steps, events))
            if events is not None:
                events.clear()  # an update that is folded is held by nobody, before the next one is let in
            outbox, players.outbox = players.outbox, []
            for command in outbox:
                self.heard(command)
                self._desk.do(self.run, command)
            if outcome is DONE:
                return value
            events = [*await self._events(value), *self._moved(players)]

    def _look_for_refusals(self) -> None:
        there = [node for node in self._desk.nodes.values() if self._allowed(node)]
        refused = {node.name: node.refused[self.run] for node in there if self.run in node.refused}
        decided = len(refused) + sum(self.run in node.ready for node in there)
        found = "; ".join(f"{name}: {reason}" for name, reason in sorted(refused.items())[:TOLD_REFUSALS])
        more = f"; and {len(refused) - TOLD_REFUSALS} more" if len(refused) > TOLD_REFUSALS else ""
        is_open = not refused or decided < len(there) or bool(self.arrivals_per_s)
        self.refusals = None if is_open else found + more

    def _moved(self, players: NodePlayers) -> list[Moved]:
        """Of which queried nodes more has come since the last look."""
        found = {name: self._desk.uploads.arriving(self.run, name) for name in players.queried}
        before, self._arrived = self._arrived, {name: came for name, (_, came) in found.items()}
        return [Moved(name) for name, (waits, came) in found.items() if waits or came != before.get(name, 0)]

    def heard(self, command: Command) -> None:
        """A device that came hears now whether there is a seat for it."""
        if isinstance(command, Dismiss) or (isinstance(command, Deliver) and command.ask.kind == "fit"):
            self._invited.discard(command.client)
            node = self._there.get(command.client)
            if node is not None and node.checks_in and command.client not in self._had:
                self._had.add(command.client)
                self._update()

    async def _events(self, until_s: float) -> list[Any]:
        """What has come; waits for the first, at most until then."""
        loop = asyncio.get_running_loop()
        if not self._inbox and until_s > loop.time():
            self._bell.clear()
            try:
                async with asyncio.timeout_at(None if math.isinf(until_s) else until_s):
                    await self._bell.wait()
            except TimeoutError:
                pass
        events = list(self._inbox)
        self._inbox.clear()
        return events


def _advance(steps: Steps[Any], events: list[Any] | None) -> tuple[Any, Any]:
    """One step: (None, until when it waits) or (DONE, the result)."""
    try:
        return None, next(steps) if events is None else steps.send(events)
    except StopIteration as end:
        return DONE, end.value


def _model(client: str, update: Update) -> Arrays:
    """The model in a client's answer.

    Raises:
        ClientError: there is none, or no run could begin with it.
    """
    answer = update.groups.get("answer")
    if answer is None:
        raise ClientError(client, "sent no arrays")
    validate(client, {"answer": answer}, {"answer": answer.arrays.schema})
    return not_empty(answer.arrays)


def _schema(described: Any) -> Schema | None:
    if described is None:
        return None
    return Schema(
        [ArraySpec(str(n), str(dtype), tuple(int(k) for k in shape), role) for n, dtype, shape, role in described]
    )
