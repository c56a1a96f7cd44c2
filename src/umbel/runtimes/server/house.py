"""`House`: a server that outlives its runs. It knows the installed apps, leads many runs at once and resumes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, final
from weakref import WeakSet

from umbel.audit.key import LogKey
from umbel.errors import AppError, ConfigError, IdentityError, NotThere, StoreError, StoreFull, UmbelError
from umbel.identity import Authority, Federation
from umbel.identity.federation import DEFAULT
from umbel.runtimes.app import App
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk, Limits, Node
from umbel.runtimes.server.memory import Memory
from umbel.runtimes.server.queue import Queue
from umbel.runtimes.server.usage import Today, federation_of, table, why_over
from umbel.runtimes.session import Hooks
from umbel.runtimes.settings import checked
from umbel.stores import RunInfo, Store
from umbel.transports import Link
from umbel.wire.packets import Hello

RUNS_AT_ONCE = 8
MOST_WAITING = 1000
LOOK_S = 0.5
# For a run's user, who has no business with the server's paths; the operator's log has them.
NO_ROOM = "the server has no room left on its disk; once its operator has made some, umbel resume goes on"
NO_STORE = "the server cannot use its store; its log says why"


@final
class House:
    """Runs of installed apps over the nodes of one desk.

    Args:
        store: keeps runs; closed with the house.
        apps: what the operator installed; nothing else is run.
        name: the server's name.
        authority: says who is a member, and of which federation; None is an insecure server, without either.
        say: told what goes on, in sentences.
    """

    def __init__(
        self,
        store: Store,
        apps: Sequence[App],
        *,
        name: str,
        say: Callable[[str], None],
        authority: Authority | None = None,
        limits: Limits | None = None,
        memory: Memory | None = None,
        compress: str | None = None,
    ) -> None:
        self.apps = {app.name: app for app in apps}
        self.store = store
        self._say, self._authority, self._memory = say, authority, memory
        self._log_key = None if authority is None else LogKey.read(authority.log_pem(), "the server's log.pem")
        self.desk = Desk(name, say=say, limits=limits, admit=self._admit, still=self._still, compress=compress)
        self._guests: WeakSet[Link] = WeakSet()
        self._conducts: dict[str, Conduct] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unresumed: set[str] = set()
        self._today = Today(store)
        self._queue = Queue(RUNS_AT_ONCE, self._federation, lambda one: why_over(one, self._today))
        self._turns: dict[str, asyncio.Event] = {}
        self._looks: asyncio.Task[None] | None = None
        self._followers: dict[str, set[asyncio.Queue[Mapping[str, Any] | None]]] = {}
        self._waits: dict[str, str | None] = {}
        self._broken: dict[str, str] = {}

    def guest_arrived(self, link: Link) -> None:
        """A client without a certificate, from a door that is for such: it may take part where an app says so."""
        self._guests.add(link)
        self.desk.arrived(link)

    def _may_run(self, node: Node, app: App) -> bool:
        if node.stream.link in self._guests:
            return app.flower
        return app.name in node.about.apps

    def _admit(self, hello: Hello, link: Link) -> str | None:
        return self._still(link)

    def _still(self, link: Link) -> str | None:
        if self._authority is None or link in self._guests:
            return None
        return self._authority.why_refused(link.certificate)

    def _federation(self, name: str) -> Federation:
        """The one of this name; of one that was removed no run goes on."""
        if self._authority is None:
            return Federation(name=name)
        try:
            return self._authority.federation(name)
        except IdentityError:
            return Federation(name=name, runs_at_once=0)

    def _is_in(self, node: Node, federation: str) -> bool:
        """Whether a node is of a federation. It stays in it as long as it is connected: who moves has to join anew."""
        if node.federation is None:
            certificate = node.stream.link.certificate
            if self._authority is None or certificate is None:
                node.federation = DEFAULT
            else:
                try:
                    node.federation = self._authority.federation_of(certificate).name
                except IdentityError:
                    return False
        return node.federation == federation

    def resume_all(self) -> bool:
        """Go on with the runs that were under way when the server ended.

        Returns:
            whether that was all; if not, a server that has not quite ended holds one, so ask again a little later.
        """
        held = False
        for info in self.store.runs():
            if info.status != "running" or not info.plan.get("app") or info.id in self._tasks:
                continue
            try:
                self.resume(info.id)
            except UmbelError as error:
                if isinstance(error, StoreError):
                    held = True
                else:
                    self._broken[info.id] = f"failed: it cannot go on here: {error}"
                if info.id not in self._unresumed:
                    self._say(f"run {info.id} is not resumed: {error}")
                self._unresumed.add(info.id)
        return not held

    def submit(
        self,
        app: str,
        settings: Mapping[str, Any],
        *,
        digest: str | None = None,
        name: str = "",
        federation: str = DEFAULT,
    ) -> str:
        """Begin a run of an installed app; returns its id.

        Args:
            name: at most 200 printable characters; empty is the app's name.

        Raises:
            AppError: the app is not installed, or another version of it.
            ConfigError: the name or the settings are none, or the federation is over a quota and does not wait.
        """
        found = self._app(app, digest, federation)
        changed = checked(found.config, settings)
        self._refuse_over(federation)
        return self._start(self._order(found, {**found.config, **changed}, name or found.name, federation))

    def _refuse_over(self, name: str) -> None:
        """Refuse a run that would have to wait, where the federation wants that."""
        federation = self._federation(name)
        reason = self._queue.why_full(federation) if federation.over == "refuse" else None
        if reason is not None:
            raise ConfigError(reason)

    def resume(self, run: str, changes: Mapping[str, Any] | None = None, *, federation: str | None = None) -> str:
        """Go on with a run after its last finished round.

        Args:
            federation: whose runs are looked at; None is all, and waits if there is no room.

        Raises:
            ConfigError: there is no such run, it is under way, the changes are no settings of its app's, or its
                federation is over a quota and does not wait.
        """
        info = self.info(run, federation)
        if info.id in self._tasks:
            raise ConfigError(f"run {info.id} is under way already")
        entry = info.plan.get("app")
        if not entry:
            raise AppError(f"run {info.id} was started from Python and not from an app; go on there")
        found = self._app(entry["name"], entry["digest"], federation_of(info))
        if federation is not None:
            self._refuse_over(federation)
        settings = {**entry["settings"], **checked(found.config, changes or {})}
        return self._start(replace(self._order(found, settings, info.name, federation_of(info)), resume=info.id))

    def apps_of(self, federation: str) -> dict[str, App]:
        """The installed apps that a federation may run, by name."""
        allowed = self._federation(federation).apps
        return {name: app for name, app in self.apps.items() if allowed is None or name in allowed}

    def _app(self, name: str, digest: str | None, federation: str) -> App:
        apps = self.apps_of(federation)
        found = apps.get(name)
        if found is None:
            there = ", ".join(apps) or "none"
            raise AppError(f"this server has no app {name!r}; installed are {there}: umbel server --app FOLDER")
        if digest is not None and digest != found.digest:
            raise AppError(f"the server's app {name!r} is another version (digest {found.digest[:12]}…) than yours")
        return found

    def _order(self, app: App, settings: Mapping[str, Any], name: str, federation: str) -> Order:
        run = app.describe(settings)
        config = run.config
        if config.min_available_clients is None and not config.arrivals:
            config = replace(config, min_available_clients=run.num_clients)
        return Order(
            strategy=run.strategy,
            config=config,
            coordinator=run.coordinator,
            privacy=run.privacy,
            hooks=Hooks(run.evaluate_fn, run.on_fit_config_fn, run.on_evaluate_config_fn),
            initial=run.initial_parameters,
            name=name,
            app=app.entry(settings),
            settings=settings,
            num_clients=run.num_clients,
            allowed=lambda node: self._may_run(node, app) and self._is_in(node, federation),
            refuses=lambda node: why_not_from(self._federation(federation).regions, node.about.card),
            federation=None if federation == DEFAULT else federation,
            why_not=self._queue.why_not,
        )

    def _start(self, order: Order) -> str:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1, "umbel-run")
        told: list[str] = []
        federation = order.federation or DEFAULT

        def observe(event: Mapping[str, Any]) -> None:
            self._today.tell(federation, event)
            loop.call_soon_threadsafe(self._tell, told[0], event)

        # A connection of its own: transactions of two runs must not mix.
        store = self.store.beside()
        try:
            conduct = Conduct(
                replace(order, observers=[observe], log_key=self._log_key),
                store,
                self.desk,
                offload=lambda work: loop.run_in_executor(executor, work),
                say=self._say,
                memory=self._memory,
            )
        except UmbelError:
            store.close()
            raise
        told.append(conduct.run)
        self._broken.pop(conduct.run, None)
        self._conducts[conduct.run], self._turns[conduct.run] = conduct, asyncio.Event()
        self._queue.enter(conduct.run, federation)
        self._tasks[conduct.run] = asyncio.ensure_future(self._drive(conduct, store, executor))
        self._say(f"run {conduct.run} ({order.name}) waits for {conduct.config.min_available_clients or 1} nodes")
        if self._looks is None:
            self._looks = asyncio.ensure_future(self._look_on())
        self._look()
        return conduct.run

    def _look(self) -> None:
        """Let those begin whose turn it is."""
        for run in self._queue.look():
            if run in self._turns:
                self._turns[run].set()

    async def _look_on(self) -> None:
        """Look again and again: quotas change by the clock and by other processes, which ring no bell here."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._look()
            except UmbelError as error:
                self._say(f"it cannot be seen whose turn it is: {error}")
            self._tell_waits()

    def _tell_waits(self) -> None:
        """Tell those who follow a run what it waits for, when that has changed."""
        for run in self._followers:
            text = self.waits_for(run)
            if text is not None and self._waits.get(run, text) != text:
                self._tell(run, {"run": run, "kind": "waiting", "text": text})
            self._waits[run] = text

    async def _drive(self, conduct: Conduct, store: Store, executor: ThreadPoolExecutor) -> None:
        try:
            turn = self._turns[conduct.run]
            await turn.wait()
            if self._queue.reason(conduct.run) is not None:
                # Stopped before its turn came.
                store.set_status(conduct.run, "interrupted")
                return
            history = await conduct.drive()
            self._say(f"run {conduct.run} ended: {history.ended}")
        except StoreError as error:
            # In the store it is under way, and goes on at the next start; here it has failed until it is resumed.
            self._broken[conduct.run] = f"failed: {NO_ROOM if isinstance(error, StoreFull) else NO_STORE}"
            self._say(f"run {conduct.run} failed: {error}")
        except UmbelError as error:
            # One that was stopped before it began is to go on, or may.
            if self.info(conduct.run).status == "interrupted":
                self._say(f"run {conduct.run} ended: {error}")
            else:
                self._say(f"run {conduct.run} failed: {error}")
        except Exception as error:
            # A fault in one run must not take the others with it.
            self._say(f"run {conduct.run} failed: {type(error).__name__}: {error}")
            store.set_status(conduct.run, "failed")
        finally:
            del self._conducts[conduct.run], self._tasks[conduct.run], self._turns[conduct.run]
            self._queue.leave(conduct.run)
            self._look()
            self._tell(conduct.run, None)
            executor.shutdown(wait=False)
            store.close()

    def _tell(self, run: str, event: Mapping[str, Any] | None) -> None:
        for queue in self._followers.get(run, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def follow(self, run: str) -> asyncio.Queue[Mapping[str, Any] | None]:
        """A queue of the run's events from now on; None says that it is over.

        Who takes them slowly misses the oldest: what is in the log can be read there.
        """
        queue: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue(MOST_WAITING)
        self._followers.setdefault(run, set()).add(queue)
        if run not in self._tasks:
            queue.put_nowait(None)
        return queue

    def waits_for(self, run: str) -> str | None:
        """What a run that is under way waits for, in a sentence."""
        conduct, reason = self._conducts.get(run), self.queued(run)
        if reason is not None:
            return f"queued: {reason}"
        return None if conduct is None else conduct.waits_for

    def status(self, info: RunInfo) -> str:
        """How a run stands: what the store says, "queued", or "failed" if the store could not be told."""
        if self.queued(info.id):
            return "queued"
        return "failed" if info.id in self._broken else info.status

    def broken(self, run: str) -> str | None:
        """Why a run has failed, in a sentence for its user, if the store could not be told."""
        return self._broken.get(run)

    def reached(self, run: str) -> int:
        """The last round that is finished; 0 if none is."""
        return max(self.store.checkpoints(run), default=0)

    def queued(self, run: str) -> str | None:
        """Why it is not a run's turn, in a sentence."""
        return self._queue.reason(run)

    def unfollow(self, run: str, queue: asyncio.Queue[Mapping[str, Any] | None]) -> None:
        self._followers.get(run, set()).discard(queue)
        if not self._followers.get(run):
            self._followers.pop(run, None)
            self._waits.pop(run, None)

    def stop(self, run: str, *, federation: str | None = None) -> str:
        """End a run after the step under way; it can be resumed.

        Raises:
            ConfigError: it is not under way.
        """
        info = self.info(run, federation)
        conduct = self._conducts.get(info.id)
        if conduct is None:
            raise ConfigError(f"run {info.id} is not under way: its status is {self.status(info)}")
        conduct.leader.stop("stopped")
        self._turns[info.id].set()
        return info.id

    def runs(self, federation: str | None = None) -> list[RunInfo]:
        """The runs of a federation, oldest first; None is all."""
        return [info for info in self.store.runs() if federation is None or federation_of(info) == federation]

    def info(self, run: str, federation: str | None = None) -> RunInfo:
        """The run whose id begins with `run`; "last" is the newest.

        Args:
            federation: whose runs are looked at: others are not there. None is all.

        Raises:
            NotThere: there is none, or there are several.
        """
        there = self.runs(federation)
        found = there[-1:] if run == "last" else [info for info in there if info.id.startswith(run)]
        exact = [info for info in found if info.id == run]
        if len(exact or found) != 1:
            raise NotThere(f"there is no single run {run!r}")
        return (exact or found)[0]

    def nodes(self, federation: str | None = None) -> list[dict[str, Any]]:
        """The connected nodes of a federation, as plain data; None is all."""
        return [_described(n) for n in self.desk.nodes.values() if federation is None or self._is_in(n, federation)]

    def usage(self, federation: str) -> list[dict[str, Any]]:
        """What a federation's runs have used, by run and day. Reads all their logs: not for an event loop's thread."""
        store = self.store.beside()
        try:
            return table(store, federation)
        finally:
            if store is not self.store:
                store.close()

    async def revoke(self, name: str, *, federation: str | None = None) -> None:
        """Turn a member away for good, and end its stream at once.

        Raises:
            ConfigError: this server has no members.
            IdentityError: there is no such member.
        """
        authority = self._authority
        if authority is None:
            raise ConfigError("an insecure server has no members to revoke")
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: authority.revoke(name, federation=federation))
        node = self.desk.nodes.get(name)
        if node is not None:
            node.stream.end(f"{name} is revoked", refused=True)

    async def close(self, *, drain_s: float = 30.0) -> None:
        """Let every run finish its step, and say goodbye; nodes come back when the server does."""
        for conduct in list(self._conducts.values()):
            conduct.leader.stop("the server was stopped")
            self._turns[conduct.run].set()
        if self._looks is not None:
            self._looks.cancel()
        under_way = dict(self._tasks)
        if under_way:
            await asyncio.wait(under_way.values(), timeout=drain_s)
        for run in under_way:
            if self.info(run).status == "interrupted":
                # It is to go on by itself after the next start.
                self.store.set_status(run, "running")
        await self.desk.close("the server was stopped", finished=False)
        try:
            self.store.close()
        except StoreError as error:
            self._say(str(error))


def why_not_from(regions: tuple[str, ...] | None, card: Mapping[str, str]) -> str | None:
    """Why a node does not take part in the runs of a federation that takes data from some regions only."""
    if regions is None or card.get("region") in regions:
        return None
    only = f"the federation takes data from {', '.join(regions)} only"
    if "region" not in card:
        return f"{only}, and the node has no data card: umbel node --card"
    return f"{only}, and the node's data card says {card['region']!r}"


def _described(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "address": node.address,
        "about": node.about.plain(),
        "attributes": dict(node.about.attributes),
        "runs": sorted(node.ready),
        "checks_in": node.checks_in,
        "refused": dict(node.refused),
    }
