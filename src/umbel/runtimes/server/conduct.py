"""`Conduct`: one run on a server, from its order to its history. Scripts have one, `umbel server` many at a time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from secrets import randbits
from typing import Any, final

from umbel.arrays import Arrays, ArraysLike
from umbel.audit.key import LogKey
from umbel.audit.notary import Notary
from umbel.coordinators import (
    Overlap,
    Overlapping,
    Rounds,
    Secure,
    ServerConfig,
    Tiered,
    arrivals_per_s,
    check_for,
    leader,
    read_where,
)
from umbel.errors import ConfigError, NotSupported, RoundError, StoreError, TooFewClients, UmbelError
from umbel.plan import FORMAT, describe
from umbel.privacy.plan import PrivacyPlan
from umbel.privacy.promised import Promised
from umbel.runtimes import asynchronous, enough, keeping
from umbel.runtimes.budget import Budget
from umbel.runtimes.halves import client_half
from umbel.runtimes.history import History
from umbel.runtimes.privately import Parts, promise
from umbel.runtimes.room import Room
from umbel.runtimes.securing import check_secure, played
from umbel.runtimes.server.cohort import CohortPlayers
from umbel.runtimes.server.desk import Desk, Node
from umbel.runtimes.server.lead import Leader, Offload
from umbel.runtimes.server.memory import Memory
from umbel.runtimes.server.nodes import Nodes
from umbel.runtimes.server.players import NodePlayers
from umbel.runtimes.server.streams import StreamPlayers
from umbel.runtimes.session import Hooks, Observer, broken_off
from umbel.runtimes.stopping import check_stopping
from umbel.stores import Store
from umbel.strategy import Strategy

LEAST_CLIENTS = 2


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run.

    Attributes:
        coordinator: how turns overlap; None is rounds.
        privacy: the differential privacy that the run promises; None promises none.
        app: what names the app in the plan; None for a script's live objects.
        num_clients: what `context.num_partitions` says; None leaves it open.
        resume: id (or its beginning) of a run in the store to go on with.
        allowed: whether a node may take part.
        refuses: says of an allowed node why it is refused all the same; None lets it in.
        federation: the name of the one that the run belongs to; None is the default one.
        log_key: signs the run's log; None is one beside the store.
        why_not: says why the run of an id may not begin its next round yet; None lets it.
    """

    strategy: Strategy
    config: ServerConfig
    coordinator: Overlap | Secure | None = None
    privacy: PrivacyPlan | None = None
    hooks: Hooks = field(default_factory=Hooks)
    initial: ArraysLike | None = None
    name: str = "server"
    app: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    num_clients: int | None = None
    resume: str | None = None
    observers: Sequence[Observer] = ()
    allowed: Callable[[Node], bool] = lambda node: True
    refuses: Callable[[Node], str | None] = lambda node: None
    federation: str | None = None
    log_key: LogKey | None = None
    why_not: Callable[[str], str | None] = lambda run: None


@final
class Conduct:
    """A run that is led over the nodes of a desk.

    Raises:
        StoreError: the run to go on with is not there.
        ConfigError: it was begun under another plan.
    """

    def __init__(
        self,
        order: Order,
        store: Store,
        desk: Desk,
        *,
        offload: Offload,
        say: Callable[[str], None],
        memory: Memory | None = None,
    ) -> None:
        self.order, self._desk, self._offload, self._say = order, desk, offload, say
        self._notes: set[asyncio.Future[Any]] = set()
        self._memory = memory or Memory()
        check_stopping(order.config, central=order.hooks.evaluate_fn is not None)
        if isinstance(order.coordinator, Secure):
            check_secure(order.coordinator, order.config, per_client=order.hooks.per_client)
        elif order.coordinator is not None:
            _check_asynchronous(order, order.coordinator, self._memory)
        info = keeping.found(store, order.resume)
        seed = info.plan["config"]["seed"] if info else randbits(53)
        config = order.config if order.config.seed is not None else replace(order.config, seed=seed)
        if config.arrivals and order.strategy.counts_clients:
            raise ConfigError(
                f"{type(order.strategy).__name__} needs to know how many clients there are, which nobody does with "
                "arrivals=True; use FedAvg, or draw cohorts of nodes that stay connected"
            )
        least = order.coordinator.min_cohort if isinstance(order.coordinator, Secure) else LEAST_CLIENTS
        if config.min_available_clients is None and not config.arrivals:
            config = replace(config, min_available_clients=least)
        if isinstance(order.coordinator, Secure):
            enough.check_secure_cohort(order.coordinator, config, config.min_available_clients or 1)
        if order.privacy is not None:
            parts = Parts(order.strategy, config, order.coordinator).under_on_nodes(
                order.privacy, per_client=order.hooks.per_client, has_model=order.initial is not None
            )
            config = parts.config
            order = self.order = replace(order, strategy=parts.strategy, coordinator=parts.coordinator)
        self.config = config
        self.plan: dict[str, Any] = {
            "format": FORMAT,
            "app": None if order.app is None else dict(order.app),
            "portable": order.app is not None,
            "strategy": describe(order.strategy),
            "config": describe(config),
            "num_clients": order.num_clients,
            "settings": describe(order.settings),
            "client_half": client_half(played(order.strategy, order.coordinator)),
        }
        if order.coordinator is not None:
            self.plan["coordinator"] = describe(order.coordinator)
        if order.federation is not None:
            self.plan["federation"] = order.federation
        self._kept = keeping.kept(store, info, order.name, self.plan, order.log_key)
        self._notary: Notary | None = None
        self.run = self._kept.run
        self.nodes = Nodes()
        self._where = read_where(config.where) if config.where else None
        self.leader = Leader(
            self.run,
            self._for_nodes(),
            desk,
            self.nodes,
            offload=offload,
            allowed=self._takes,
            why_not=order.refuses,
            say=self._note,
            arrivals_per_s=arrivals_per_s(config),
        )

    def _takes(self, node: Node) -> bool:
        return self.order.allowed(node) and (self._where is None or self._where.matches(node.facts))

    def _for_nodes(self) -> dict[str, Any]:
        """What nodes are told: nothing of the root seed, and of the app only what names it."""
        app = self.order.app
        # Only where it says something: a plan without it keeps the digest that data owners have agreed to.
        where = {"where": self.config.where} if self.config.where else {}
        return {
            **where,
            **self._promised(),
            "run": self.run,
            "name": self.order.name,
            "app": None if app is None else {"name": app["name"], "digest": app["digest"]},
            "client_half": self.plan["client_half"],
            "settings": self.plan["settings"],
            "rounds": self.config.num_rounds,
            "num_clients": self.order.num_clients,
            "cohort": self._cohort,
            "per_client_metrics": self.config.per_client_metrics
            or self.order.hooks.per_client
            # A selector that learns keeps the last loss of each client.
            or self.config.selector.hears is not None,
        }

    def _promised(self) -> dict[str, Any]:
        """What data owners' policies may ask for."""
        promised = dict[str, Any]()
        if isinstance(self.order.coordinator, Secure):
            promised["secure_aggregation"] = True
        if isinstance(self.order.strategy, Promised):
            promised["differential_privacy"] = promise(self.order.strategy, self.config.num_rounds)
        return {"privacy": promised} if promised else {}

    @property
    def _cohort(self) -> int:
        """Of how many updates a step is made at least, where nobody fails: what a data owner's policy looks at."""
        there, coordinator = self.config.min_available_clients or 1, self.order.coordinator
        asked = max(self.config.min_fit_clients, there)
        if isinstance(coordinator, Tiered):
            return math.ceil(round(coordinator.waits_for * asked, 9))
        if coordinator is None or isinstance(coordinator, Secure):
            return asked
        return min(coordinator.buffer_size, there)

    def _note(self, text: str) -> None:
        """Tell the operator, the log and whoever follows the run: why a node does not take part, for example."""
        self._say(text)
        event = {"format": FORMAT, "kind": "warning", "round": 0, "text": text}

        def write() -> None:
            self._kept.store.append(self.run, event)
            if self._notary is not None:
                self._notary.noted(event)
            for observer in self.order.observers:
                observer({"run": self.run, **event})

        noted = asyncio.ensure_future(self._offload(write))
        self._notes.add(noted)
        noted.add_done_callback(self._notes.discard)

    @property
    def waits_for(self) -> str | None:
        """What the run waits for before it can begin, in a sentence."""
        wanted, there = 0 if self.config.arrivals else self.config.min_available_clients or 1, self.nodes.size
        if there >= wanted:
            return None
        refusals = "" if self.leader.refusals is None else f"; refused by {self.leader.refusals}"
        return f"waiting for nodes: {there} of {wanted} {self.are_what}{refusals}"

    @property
    def are_what(self) -> str:
        """What a node has to be to count, with how many there are in all if that is a question."""
        if self._where is None:
            return "are ready"
        there = sum(map(self.order.allowed, self._desk.nodes.values()))
        return f"match {self._where.text} ({there} connected)"

    async def drive(self) -> History:
        """Offer the run to nodes and lead it to its end.

        Raises:
            UmbelError: it failed; what is finished is kept.
        """
        self._desk.begin(self.leader)
        over = False  # what its clients remember is needed if it is resumed
        try:
            history = await self._drive()
            over = history.ended != "interrupted"
            return history
        finally:
            self._desk.end(self.leader, for_good=over)
            await self._sign_rest()
            self._kept.store.release(self.run)

    async def _sign_rest(self) -> None:
        """Sign what was noted after the run's end, or where it broke off: who looks later wants all of it signed."""
        while under_way := [note for note in self._notes if not note.done()]:
            await asyncio.wait(under_way)
        # A store that fails has been told of already.
        with suppress(StoreError):
            await self._offload(self._sign)

    def _sign(self) -> None:
        store, notary = self._kept.store, self._notary or self._kept.notary()
        head = None if notary is None else notary.tree_head(max(store.checkpoints(self.run), default=0))
        if notary is not None and head is not None:
            written = {"format": FORMAT, **head}
            store.append(self.run, written)
            notary.noted(written)

    async def _drive(self) -> History:
        order, kept, config = self.order, self._kept, self.config
        loop = asyncio.get_running_loop()
        coordinator, players = self._players(loop)
        players.why_not = lambda: order.why_not(self.run)
        params, giver = Arrays.of({}), None
        if kept.fresh:
            given = None if order.initial is None else Arrays.of(order.initial)
            try:
                least = config.min_available_clients or 1
                params, giver = await self.leader.initial(players, given, least=least, timeout_s=config.round_timeout)
            except StoreError:
                raise
            except UmbelError as error:
                await self._offload(partial(self._end_early, error))
                raise
        # The notary reads the log once, in which nothing may be on its way meanwhile.
        while under_way := [note for note in self._notes if not note.done()]:
            await asyncio.wait(under_way)
        session = kept.session(order.strategy, coordinator, order.hooks, lambda: params, players.restore)
        self._notary, session.giver = session.notary, giver
        session.observers, session.clock, session.wall_clock = order.observers, loop.time, time.time
        if isinstance(order.strategy, Promised):
            session.budget = Budget.of(order.strategy, kept.store.log(self.run), config.num_rounds, promised=True)
        session.room = None if kept.store.folder is None else Room(kept.store.folder)
        # The session has it now, perhaps on disk: another copy in memory would stay as long as the run.
        params, self.order = Arrays.of({}), replace(order, initial=None)
        if isinstance(order.coordinator, Secure):
            # Durable before anybody is asked: nodes make keys once for each offer, and know it by this.
            players.leadership = session.lead()
        players.tell_through(session.say, session.progress if order.observers else None)
        ended = await self.leader.lead(session, players)
        log = kept.store.log(self.run)
        return replace(History.of(log, session.state.params, self.run, self.plan), ended=ended)

    def _end_early(self, error: UmbelError) -> None:
        """Write down that the run ended before it began: it was stopped, or failed."""
        is_stopped = isinstance(error, RoundError) and not isinstance(error, TooFewClients)
        reason = "interrupted" if is_stopped else broken_off(error)
        store, event = self._kept.store, {"format": FORMAT, "kind": "ended", "round": 0, "reason": reason}
        store.append(self.run, event)
        store.set_status(self.run, "interrupted" if is_stopped else "failed")
        if self._notary is not None:
            self._notary.noted(event)

    def _players(self, loop: asyncio.AbstractEventLoop) -> tuple[Rounds | Overlapping, NodePlayers]:
        """Who leads, and who plays the clients."""
        order, config, store = self.order, self.config, self._kept.store
        assert config.seed is not None
        coordinator: Rounds | Overlapping
        kind: Callable[..., NodePlayers]
        if order.coordinator is None:
            least = order.strategy.reducer.least_updates
            coordinator, kind = Rounds(config, self.nodes, timed=True, least_updates=least), CohortPlayers
        elif isinstance(order.coordinator, Secure):
            coordinator, kind = Rounds(config, self.nodes, timed=True), _secure_players(order.coordinator)
        else:
            coordinator, kind = leader(order.coordinator, config, self.nodes), StreamPlayers
        return coordinator, kind(
            self.run,
            order.strategy,
            self.nodes,
            store,
            seed=config.seed,
            clock=loop.time,
            per_client_metrics=config.per_client_metrics or order.hooks.per_client,
            evaluation_timeout_s=config.round_timeout,
            memory=replace(self._memory, folder=self._memory.folder or store.folder),
            packs=self._desk.compress is not None,
            hears=config.selector.hears,
        )


def _secure_players(settings: Secure) -> Callable[..., NodePlayers]:
    from umbel.runtimes.server.secure import SecureNodePlayers

    return partial(SecureNodePlayers, settings)


def _check_asynchronous(order: Order, coordinator: Overlap, memory: Memory) -> None:
    """Refuse what cannot be asynchronous, before anything is kept."""
    asynchronous.check_strategy(order.strategy, asynchronous.is_one(coordinator))
    check_for(coordinator, order.config)
    if memory.spool:
        raise NotSupported(
            f"{type(coordinator).__name__} scales updates in memory as they come, which a spool keeps on disk; run "
            "without a spool"
        )
