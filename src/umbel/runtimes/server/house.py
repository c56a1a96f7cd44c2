"""`House`: a server that outlives its runs. It knows the installed apps, leads many runs at once and resumes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, final

from umbel.errors import AppError, ConfigError, StoreError, UmbelError
from umbel.runtimes.app import App
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk, Limits, Node
from umbel.runtimes.session import Hooks
from umbel.stores import RunInfo, Store
from umbel.transports import Link
from umbel.wire.packets import Hello

RUNS_AT_ONCE = 8


@final
class House:
    """Runs of installed apps over the nodes of one desk.

    Args:
        store: keeps runs; closed with the house.
        apps: what the operator installed; nothing else is run.
        name: the server's name.
        why_refused: looks at a node's certificate; None lets it in.
        revoke: turns a member away for good.
        say: told what goes on, in sentences.
    """

    def __init__(
        self,
        store: Store,
        apps: Sequence[App],
        *,
        name: str,
        say: Callable[[str], None],
        why_refused: Callable[[bytes | None], str | None] | None = None,
        revoke: Callable[[str], None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.apps = {app.name: app for app in apps}
        self.store = store
        self._say, self._why_refused = say, why_refused
        self.desk = Desk(name, say=say, limits=limits, admit=self._admit, still=self._still)
        self._revoke = revoke
        self._conducts: dict[str, Conduct] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unresumed: set[str] = set()
        self._turn = asyncio.Semaphore(RUNS_AT_ONCE)
        self._followers: dict[str, set[asyncio.Queue[Mapping[str, Any] | None]]] = {}

    def _admit(self, hello: Hello, link: Link) -> str | None:
        return self._still(link)

    def _still(self, link: Link) -> str | None:
        return None if self._why_refused is None else self._why_refused(link.certificate)

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
                held = held or isinstance(error, StoreError)
                if info.id not in self._unresumed:
                    self._say(f"run {info.id} is not resumed: {error}")
                self._unresumed.add(info.id)
        return not held

    def submit(self, app: str, settings: Mapping[str, Any], *, digest: str | None = None, name: str = "") -> str:
        """Begin a run of an installed app; returns its id.

        Raises:
            AppError: the app is not installed, or another version of it.
            ConfigError: the settings are not the app's.
        """
        found = self._app(app, digest)
        unknown = [key for key in settings if key not in found.config]
        if unknown:
            raise ConfigError(f"the app has no setting {unknown[0]!r}; it has {', '.join(found.config) or 'none'}")
        return self._start(self._order(found, {**found.config, **settings}, name or found.name))

    def resume(self, run: str, changes: Mapping[str, Any] | None = None) -> str:
        """Go on with a run after its last finished round.

        Raises:
            ConfigError: there is no such run, or it is under way.
        """
        info = self.info(run)
        if info.id in self._tasks:
            raise ConfigError(f"run {info.id} is under way already")
        entry = info.plan.get("app")
        if not entry:
            raise AppError(f"run {info.id} was started from Python and not from an app; go on there")
        found = self._app(entry["name"], entry["digest"])
        settings = {**entry["settings"], **(changes or {})}
        return self._start(replace(self._order(found, settings, info.name), resume=info.id))

    def _app(self, name: str, digest: str | None) -> App:
        found = self.apps.get(name)
        if found is None:
            there = ", ".join(self.apps) or "none"
            raise AppError(f"this server has no app {name!r}; installed are {there}: umbel server --app FOLDER")
        if digest is not None and digest != found.digest:
            raise AppError(f"the server's app {name!r} is another version (digest {found.digest[:12]}…) than yours")
        return found

    def _order(self, app: App, settings: Mapping[str, Any], name: str) -> Order:
        run = app.describe(settings)
        config = run.config
        if config.min_available_clients is None:
            config = replace(config, min_available_clients=run.num_clients)
        return Order(
            strategy=run.strategy,
            config=config,
            hooks=Hooks(run.evaluate_fn, run.on_fit_config_fn, run.on_evaluate_config_fn),
            initial=run.initial_parameters,
            name=name,
            app=app.entry(settings),
            settings=settings,
            num_clients=run.num_clients,
            allowed=lambda node: app.name in (node.about.get("apps") or ()),
        )

    def _start(self, order: Order) -> str:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1, "umbel-run")
        told: list[str] = []

        def observe(event: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(self._tell, told[0], event)

        # A connection of its own: transactions of two runs must not mix.
        store = self.store.beside()
        try:
            conduct = Conduct(
                replace(order, observers=[observe]),
                store,
                self.desk,
                offload=lambda work: loop.run_in_executor(executor, work),
                say=self._say,
            )
        except UmbelError:
            store.close()
            raise
        told.append(conduct.run)
        self._conducts[conduct.run] = conduct
        self._tasks[conduct.run] = asyncio.ensure_future(self._drive(conduct, store, executor))
        self._say(f"run {conduct.run} ({order.name}) waits for {conduct.config.min_available_clients} nodes")
        return conduct.run

    async def _drive(self, conduct: Conduct, store: Store, executor: ThreadPoolExecutor) -> None:
        try:
            async with self._turn:
                history = await conduct.drive()
            self._say(f"run {conduct.run} ended: {history.ended}")
        except UmbelError as error:
            self._say(f"run {conduct.run} failed: {error}")
        except Exception as error:
            # A fault in one run must not take the others with it.
            self._say(f"run {conduct.run} failed: {type(error).__name__}: {error}")
            store.set_status(conduct.run, "failed")
        finally:
            del self._conducts[conduct.run], self._tasks[conduct.run]
            self._tell(conduct.run, None)
            executor.shutdown(wait=False)
            store.close()

    def _tell(self, run: str, event: Mapping[str, Any] | None) -> None:
        for queue in self._followers.get(run, ()):
            queue.put_nowait(event)

    def follow(self, run: str) -> asyncio.Queue[Mapping[str, Any] | None]:
        """A queue of the run's events from now on; None says that it is over."""
        queue: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._followers.setdefault(run, set()).add(queue)
        if run not in self._tasks:
            queue.put_nowait(None)
        return queue

    def waits_for(self, run: str) -> str | None:
        """What a run that is under way waits for, in a sentence."""
        conduct = self._conducts.get(run)
        return None if conduct is None else conduct.waits_for

    def unfollow(self, run: str, queue: asyncio.Queue[Mapping[str, Any] | None]) -> None:
        self._followers.get(run, set()).discard(queue)

    def stop(self, run: str) -> str:
        """End a run after the step under way; it can be resumed.

        Raises:
            ConfigError: it is not under way.
        """
        info = self.info(run)
        conduct = self._conducts.get(info.id)
        if conduct is None:
            raise ConfigError(f"run {info.id} is not under way; it is {info.status}")
        conduct.leader.stop("stopped")
        return info.id

    def info(self, run: str) -> RunInfo:
        """The run whose id begins with `run`; "last" is the newest.

        Raises:
            ConfigError: there is none, or there are several.
        """
        found = next(reversed(self.store.runs()), None) if run == "last" else self.store.find(run)
        if found is None:
            raise ConfigError(f"there is no single run {run!r}")
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """The connected nodes, as plain data."""
        return [_described(node) for node in self.desk.nodes.values()]

    async def revoke(self, name: str) -> None:
        """Turn a member away for good, and end its stream at once.

        Raises:
            ConfigError: this server has no members.
            IdentityError: there is no such member.
        """
        if self._revoke is None:
            raise ConfigError("an insecure server has no members to revoke")
        await asyncio.get_running_loop().run_in_executor(None, self._revoke, name)
        node = self.desk.nodes.get(name)
        if node is not None:
            node.stream.end(f"{name} is revoked", refused=True)

    async def close(self, *, drain_s: float = 30.0) -> None:
        """Let every run finish its step, and say goodbye; nodes come back when the server does."""
        for conduct in list(self._conducts.values()):
            conduct.leader.stop("the server was stopped")
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


def _described(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "address": node.address,
        "about": dict(node.about),
        "runs": sorted(node.ready),
        "refused": dict(node.refused),
    }
