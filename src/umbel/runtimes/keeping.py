"""Runs in a store: begin one, find one to go on with, and where it had got to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from umbel.arrays import Arrays
from umbel.audit.key import LogKey, key_beside
from umbel.audit.notary import Notary
from umbel.coordinators import Coordinator
from umbel.errors import ConfigError, StoreError
from umbel.plan import check_same
from umbel.runtimes import checkpoint
from umbel.runtimes.family import family
from umbel.runtimes.session import Hooks, Session
from umbel.stores import MemoryStore, RunInfo, Store, store_for
from umbel.stores.link import PLAN, named_plan, plan_digest
from umbel.strategy import Strategy

LONGEST_NAME = 200
FORGOTTEN, NOTHING = "forgotten", "nothing to forget"
"""The kind of the event that says that a client was forgotten, and its `guarantee` where there was nothing to do."""
FORGETTING = "forgetting"
"""The kind of the event that says which checkpoints are about to be removed for that."""


def store_at(store: Store | str | Path | None) -> Store:
    """The store that an argument names; None is one in memory."""
    if store is None:
        return MemoryStore()
    if not isinstance(store, (Store, str, Path)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f'store must be the path of an SQLite file, a store or None, got {store!r}; try "runs.db"')
    return store if isinstance(store, Store) else store_for(store)


def found(store: Store, resume: str | None) -> RunInfo | None:
    """The run to go on with, by the beginning of its id ("last" is the newest); None begins one.

    Raises:
        StoreError: there is no single such run.
    """
    if resume is None:
        return None
    info = next(reversed(store.runs()), None) if resume == "last" else store.find(resume)
    if info is None:
        ids = ", ".join(run.id for run in store.runs()[-5:]) or "no run at all"
        raise StoreError(f"the store has no single run {resume!r} to resume; it has {ids}")
    return info


@final
@dataclass(frozen=True)
class Kept:
    """A run in its store, and whether it was there before.

    Attributes:
        plan: the digest of its plan, for its first event.
        log_key: signs its log; None is one kept beside the store, if that is on a disk.
    """

    store: Store
    run: str
    before: RunInfo | None
    plan: str
    log_key: LogKey | None = None

    @property
    def fresh(self) -> bool:
        """Whether there is nothing to go on from: a run that was killed before its first checkpoint begins again."""
        return self.before is None or not self.store.checkpoints(self.run)

    def session(
        self,
        strategy: Strategy,
        coordinator: Coordinator,
        hooks: Hooks,
        initial: Callable[[], Arrays],
        restore: Callable[[Mapping[str, Any]], None] = lambda state: None,
    ) -> Session:
        """The session at the run's first round, or where it was left.

        Args:
            initial: gives the model to start from; called only for a fresh run.
            restore: takes up what else the checkpoint holds, if the run goes on from one.

        Raises:
            CheckpointCorrupt: no checkpoint can be read.
        """
        notes: list[str] = []
        fresh = self.fresh
        if self.before is not None:
            self.store.set_status(self.run, "running")
        if fresh:
            if self.before is not None:
                self.store.rewind(self.run, -1)
            state = strategy.init(initial())
        else:
            reached, state, coordination, notes = checkpoint.latest(self.store, self.run)
            coordinator.restore(coordination)
            restore(coordination)
            self.store.rewind(self.run, reached)
        session = Session(self.run, strategy, coordinator, self.store, state, hooks)
        session.notes, session.fresh, session.plan = notes, fresh, self.plan
        session.notary = self.notary()
        return session

    def replan(self, plan: Mapping[str, Any]) -> None:
        """Keep a plan that the run goes on with. Its log names it, where it does not yet, and is signed with that.

        A run without a checkpoint begins again, and its first event names the plan.
        """
        named = named_plan(self.store.log(self.run))
        if named == self.plan or (named is None and self.fresh):
            self.store.set_plan(self.run, plan)
            return
        last = max(self.store.checkpoints(self.run), default=0)
        self.store.set_plan(self.run, plan, {"format": 1, "kind": PLAN, "round": last, PLAN: self.plan})
        notary = self.notary()
        head = None if notary is None else notary.tree_head(last)
        if head is not None:
            self.store.append(self.run, {"format": 1, **head})

    def notary(self) -> Notary | None:
        """Who signs the log as it is now; nobody signs what is in memory only."""
        key, folder = self.log_key, self.store.folder
        if key is None and folder is not None:
            key = key_beside(folder)
        return None if key is None else Notary(self.run, key, self.store.log(self.run))


def kept(
    store: Store, before: RunInfo | None, name: str, plan: Mapping[str, Any], log_key: LogKey | None = None
) -> Kept:
    """The run `before`, or a new one.

    The run is claimed for this process; `store.release` gives it back.

    Args:
        name: of a new one, at most `LONGEST_NAME` printable characters.
        log_key: as in `Kept`.

    Raises:
        ConfigError: the name is none, or the run was begun under another plan.
        StoreError: another process leads it.
    """
    if before is not None:
        check_same(before.plan, plan)
        _check_not_forgotten(store, before.id)
        _check_without(store, before)
        store.claim(before.id)
        # It may go on with more rounds than before, and be killed while it does.
        found = Kept(store, before.id, before, plan_digest(plan), log_key)
        found.replan(plan)
        return found
    check_name(name)
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    store.claim(run)
    store.create(RunInfo(run, name, time.time(), "running", plan))
    return Kept(store, run, None, plan_digest(plan), log_key)


def check_name(name: object) -> None:
    """Refuse what cannot be a run's name."""
    if not isinstance(name, str):
        raise ConfigError(f'name must be a text such as "simulation", got {name!r}')
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigError(f"a run's name is at most {LONGEST_NAME} printable characters, got {name[:100]!r}")


def _check_not_forgotten(store: Store, run: str) -> None:
    """A run that goes on after a client of it was forgotten would learn from it again."""
    log = store.log(run)
    for event in log:
        if event.get("kind") == FORGOTTEN and event.get("guarantee") != NOTHING:
            new = f"; go on with run {event['new_run']}, which is without it" if event.get("new_run") else ""
            raise ConfigError(f"client {event['client']} of run {run} was forgotten, so it does not go on{new}")
    for event in log:
        if event.get("kind") == FORGETTING:
            raise ConfigError(
                f"client {event['client']} of run {run} was to be forgotten, which broke off, so it does not go on; "
                "give the same umbel forget once more"
            )


def _check_without(store: Store, info: RunInfo) -> None:
    """Nor does one that shares its beginning with a run of which a client was forgotten, and would train that one."""
    without = set(info.plan.get("without", ()))
    for other in family(store, info):
        for event in store.log(other.id) if other.id != info.id else ():
            gone = event.get("kind") == FORGETTING or (
                event.get("kind") == FORGOTTEN and event.get("guarantee") != NOTHING
            )
            if gone and event["client"] not in without:
                raise ConfigError(
                    f"client {event['client']} was forgotten in run {other.id}, with which run {info.id} shares its "
                    f"beginning, and would be trained again, so it does not go on; forget {event['client']} of run "
                    f"{info.id} as well (umbel forget), which makes a run without it"
                )
