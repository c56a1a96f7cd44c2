"""`forget`: a run without one of its clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from umbel.coordinators import Secure
from umbel.errors import ConfigError, NotSupported, StoreError
from umbel.message import require
from umbel.runtimes import keeping
from umbel.runtimes.annex import key_of
from umbel.runtimes.forgetting import approximate, report
from umbel.runtimes.forgetting.branch import branched
from umbel.runtimes.forgetting.gone import left_out
from umbel.runtimes.forgetting.influence import Influence, check_known, influence, newest_free, whole_log
from umbel.runtimes.forgetting.rerun import Rerun, gone_on
from umbel.runtimes.halves import is_promised
from umbel.runtimes.history import History
from umbel.runtimes.program import ClientFn
from umbel.stores import RunInfo, Store
from umbel.stores.abstract import Event

METHODS = ("exact", "approximate", "remove")


@final
@dataclass(frozen=True)
class Forgotten:
    """What was done.

    Attributes:
        report: the signed report, as plain data: which guarantee was given, from which round on, which checkpoints are
            gone, and which copies nothing here can reach.
        history: of the new run; None if there is none.
    """

    report: Mapping[str, Any]
    history: History | None = None

    @property
    def guarantee(self) -> str:
        """ "exact", "approximate", "removed" or "nothing to forget"."""
        return str(self.report["guarantee"])


def forget(
    client_fn: ClientFn,
    num_clients: int,
    *,
    run: str,
    client: str,
    store: Store | str | Path,
    method: str = "exact",
    rounds: int | None = None,
    keep: bool = False,
    **simulation: Any,
) -> Forgotten:
    """Make a model that does not know one client any more, in a new run that names the one it came from.

    "exact": the newest checkpoint that holds nothing of the client is gone on from, without it; where there is none,
    all is done again. Guarantee: the new model equals, to the bit, that of a run which never had the client from that
    checkpoint on. "approximate": from the last model the client's own step is taken back, w - Δ / (n - 1), and the
    others train on for `rounds`. Guarantee: none that is proven; the losses before and after are in the report.
    "remove": checkpoints that hold something of the client are removed, and nothing is trained.

    A client that took part in no round costs nothing with any method. Cannot be combined, but for "remove", with
    `privacy=` (to train again is a release more of everybody's data) or `Secure(...)` (who has both models has their
    difference, which is the client's update).

    Args:
        client_fn, num_clients: as in `simulate`, as they were for the run.
        run: its id in `store`, or the beginning of it.
        client: the client's id.
        method: "exact", "approximate" or "remove".
        rounds: of "approximate": how many the others train on, at least 1; None is a fifth of the run's.
        keep: leave the old run's checkpoints where they are; the report lists them.
        simulation: the arguments of `simulate` that the run had.

    Raises:
        ConfigError: there is no such client, or the arguments are not those of the run.
        NotSupported: to forget would tell what the run promises to hide.
        StoreError: there is no such run, it is not over, or it cannot be kept.

    Example:
        >>> import umbel as fl
        >>> from umbel.testing import Quadratics
        >>> toy, store = Quadratics(clients=3), fl.MemoryStore()
        >>> given = {"config": fl.ServerConfig(num_rounds=2, seed=1), "store": store, "engine": "serial"}
        >>> run = fl.simulate(toy.client, 3, progress=False, **given).run
        >>> gone = fl.forget(toy.client, 3, run=run, client="1", **given)
        >>> gone.guarantee, gone.history.plan["without"]
        ('exact', ['1'])

    References:
        L. Bourtoule et al., "Machine Unlearning", IEEE S&P 2021, https://arxiv.org/abs/1912.03817 (what exact means)
        A. Halimi, S. Kadhe, A. Rawat, N. Baracaldo, "Federated Unlearning: How to Efficiently Erase a Client in FL?",
        2022, https://arxiv.org/abs/2207.05521 (the model that the others train on from)
    """
    require(method in METHODS, f"method must be one of {', '.join(METHODS)}, got {method!r}")
    for name, value in (("run", run), ("client", client)):
        require(isinstance(value, str), f"{name} must be an id as text, such as '3', got {value!r}")  # pyright: ignore[reportUnnecessaryIsInstance]
    kept = keeping.store_at(store)
    try:
        info = keeping.found(kept, run)
        assert info is not None
        log = check_over(kept, info, client)
        again = Rerun.of(client_fn, num_clients, info, simulation, left_out(kept, info) - {client})
        part = again.part(log, client)
        if part.first is None or method == "remove":
            return Forgotten(finished(kept, info, client, part, method, keep=keep))
        check_open(info)
        again.check(client, log)
        if method == "exact":
            history, evidence = _again(kept, client, part, rounds, again, log), dict[str, Any]()
        else:
            history, evidence = approximate.trained_on(kept, client, part, rounds, again, log)
        told = finished(kept, info, client, part, method, keep=keep, history=history, evidence=evidence)
        return Forgotten(told, history)
    finally:
        if kept is not store:
            kept.close()


def finished(
    store: Store,
    info: RunInfo,
    client: str,
    part: Influence,
    method: str,
    *,
    keep: bool,
    history: History | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """Remove what is to be removed, write it down, and report.

    Args:
        history: of the new run, if there is one.
        evidence: what was measured, for the report.
    """
    guarantee = keeping.NOTHING if part.first is None else "removed" if method == "remove" else method
    touched = [] if part.first is None else [n for n in store.checkpoints(info.id) if n > part.before]
    # An earlier try that broke off has perhaps removed some, which the report has to name as well.
    due = report.announced(store, info.id, client)
    if part.first is not None and not keep:
        due |= {*touched}
        report.announce(store, info.id, client, sorted(due))
        # Without any checkpoint to remove, too: a process that died after the first line has left bytes in the file.
        store.forget(info.id, part.before)
        store.scrub()
    there = store.checkpoints(info.id)
    origin: Mapping[str, Any] = {} if history is None else history.plan["origin"]
    told = {
        "client": client,
        "also_without": [] if history is None else [one for one in history.plan["without"] if one != client],
        "method": method,
        "guarantee": guarantee,
        "means": report.GUARANTEES[guarantee],
        "first_round": part.first,
        "rounds": list(part.rounds),
        "rounds_not_listed": list(part.unlisted),
        "from_round": origin.get("round"),
        "new_run": None if history is None else history.run,
        "model": None if history is None else history.parameters.digest,
        "removed_checkpoints": sorted(due - {*there}),
        "kept_checkpoints": touched if keep else [],
        "other_runs": report.others_with(store, info, client, new=None if history is None else history.run),
        "out_of_reach": report.out_of_reach(part),
        **report.promised(info, store.log(info.id)),
        **(evidence or {}),
    }
    return report.noted(store, info.id, told)


def _again(
    store: Store, client: str, part: Influence, rounds: int | None, again: Rerun, log: Sequence[Event]
) -> History:
    """The rest of the run, without the client."""
    if rounds is not None:
        raise ConfigError(f'rounds={rounds} is for method="approximate"; "exact" does all rounds again that are due')
    players = [str(number) for number in range(again.num_clients)]
    # Nor may it hold anything of those that were forgotten before and whose checkpoints were kept.
    base = newest_free([part, *(again.part(log, one) for one in again.gone)], store.checkpoints(again.info.id))
    return gone_on(store, branched(store, again.info, client, base, players, gone=again.gone), again)


def check_open(info: RunInfo) -> None:
    """Refuse runs whose promise a model without the client would break.

    Raises:
        NotSupported: says why, and what can be done.
    """
    if is_promised(info.plan.get("strategy", {})):
        raise NotSupported(
            f"run {info.id} promises differential privacy, which bounds what its model shows of any one; to train "
            "again would be a release more of all the others' data. method='remove' removes the checkpoints, and the "
            "report names the bound; a new run needs a budget of its own"
        )
    if info.plan.get("coordinator", {}).get("name") == Secure.__name__:
        raise NotSupported(
            f"run {info.id} sums securely: who has its models and those of a run without one client has their "
            'difference, which is that client\'s update. method="remove" removes the checkpoints; begin a new run '
            "without it from another first model"
        )


def check_over(store: Store, info: RunInfo, client: str) -> list[Event]:
    """The whole log of a run of which a client can be forgotten.

    What can fail is looked at here, before anything that cannot be undone.

    Raises:
        ConfigError, StoreError: the run is under way or without the client already, there is no such client, or the key
            that would sign the report cannot be read.
    """
    if store.is_claimed(info.id):
        raise StoreError(
            f"run {info.id} is under way; stop it first, so that nothing is trained with {client!r} meanwhile"
        )
    key_of(store)
    log = whole_log(store, info)
    check_known(info, log, client)
    # A run that an approximation was made from is without the client, and still holds something of it.
    if client in info.plan.get("without", ()) and influence(log, client).first is None:
        raise ConfigError(f"run {info.id} is without client {client} already")
    return log
