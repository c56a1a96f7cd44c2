"""Approximate unlearning: a client's own step is taken back from the last model, and the others train on.

The model to train on from is that of Halimi et al., the mean of the others: w - Δ / (n - 1), where Δ is what the client
would change next and n how many took part in the last round. They find it by gradient ascent at the client within a
ball around that model; here nothing is asked of the client but one more turn, and nobody need have kept its updates.

References:
    A. Halimi, S. Kadhe, A. Rawat, N. Baracaldo, "Federated Unlearning: How to Efficiently Erase a Client in FL?", 2022,
    https://arxiv.org/abs/2207.05521
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from umbel.arrays import Vector, moved
from umbel.errors import ConfigError, NotSupported, RoundError
from umbel.message import Ask, is_number
from umbel.runtimes import checkpoint
from umbel.runtimes.forgetting.branch import branched
from umbel.runtimes.forgetting.gone import in_order
from umbel.runtimes.forgetting.influence import FROM_NOTHING, Influence, free_until
from umbel.runtimes.forgetting.rerun import Rerun, gone_on
from umbel.runtimes.history import History
from umbel.runtimes.replay import rounds_in
from umbel.runtimes.serial import SerialEngine
from umbel.stores import RunInfo, Store
from umbel.stores.abstract import Event
from umbel.strategy import State

SHARE = 5
"""A fifth of the run's rounds are trained on, if it is not said how many."""


def trained_on(
    store: Store, client: str, part: Influence, rounds: int | None, again: Rerun, log: Sequence[Event]
) -> tuple[History, dict[str, Any]]:
    """The new run, and how the models before and after it do on the client's data and on the others'.

    Raises:
        ConfigError: `rounds` is none.
        NotSupported: the strategy's updates are no plain changes of the model, nobody else took part, or no checkpoint
            holds something of this client and nothing of those that were forgotten before.
        RoundError: the client does not answer once more.
    """
    if rounds is not None and not (is_number(rounds) and isinstance(rounds, int) and rounds >= 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"rounds must be a whole number of at least 1, got {rounds!r}")
    info = again.info
    reached, state, coordination = _reached(store, client, part, again, log)
    wanted = rounds or max(1, -(-info.plan["config"]["num_rounds"] // SHARE))
    peers = rounds_in(log)[reached].get("participants", 0) if reached else 0
    if peers < 2:
        raise NotSupported(
            f"round {reached} had {peers} participants, so there is nobody to train on; use method='exact'"
        )
    back = without_step(store, info, client, reached, state, peers, again)
    parts = checkpoint.write(back, coordination)
    players = [str(number) for number in range(again.num_clients)]
    new = branched(store, info, client, reached, players, parts, gone=again.gone)
    history = gone_on(store, new, replace(again, config=replace(again.config, num_rounds=reached + wanted)))
    told: dict[str, Any] = {"losses": {}}
    for name, clients in (
        ("client", [client]),
        ("others", [one for one in players if one in again.others(client)]),
    ):
        measure = again.measuring(clients).measure
        before, after = (
            measure(one, reached, {}).get("loss") for one in (state, replace(state, params=history.parameters))
        )
        told["losses"][name] = {"before": before, "after": after}
    return history, told


def _reached(
    store: Store, client: str, part: Influence, again: Rerun, log: Sequence[Event]
) -> tuple[int, State, dict[str, Any]]:
    """The newest checkpoint to begin with: its round, the strategy's state and the coordinator's.

    Those whom the run is without already are dealt with; of others who were forgotten it may hold nothing.
    """
    before = again.gone - {*again.info.plan.get("without", ())}
    until = free_until(again.part(log, one) for one in before)
    there = [number for number in store.checkpoints(again.info.id) if number <= until]
    reached, state, coordination, _ = checkpoint.latest(store, again.info.id, until) if there else NONE
    if state is None or reached <= part.before:
        others = f" and nothing of {', '.join(in_order(before))}, forgotten before" if before else ""
        raise NotSupported(
            f"no checkpoint of run {again.info.id} is left that holds something of client {client}{others}, so there "
            "is no model to take its step back from; use method='exact'"
        )
    return reached, state, coordination


NONE = (FROM_NOTHING, None, dict[str, Any](), list[str]())


def without_step(
    store: Store, info: RunInfo, client: str, reached: int, state: State, peers: int, again: Rerun
) -> State:
    """The state with the client's next step taken back, as the mean of the other `peers - 1`."""
    strategy = again.strategy
    if not strategy.reducer.linear or set(strategy.schema(strategy.task(state, 0), {})) != {"delta"}:
        raise NotSupported(
            f"{strategy!r} does not add up plain changes of the model, from which one could be taken back; use "
            'method="exact"'
        )
    task = replace(strategy.task(state, reached + 1), config=again.fit_config(reached + 1))
    states = store.states(info.id, [client], reached)
    tally = SerialEngine(again.program).play([Ask(client, "fit", task)], states)
    if tally.accumulator is None:
        reason = next((one.reason for one in tally.receipts.failures()), "it sent nothing")
        raise RoundError(reached + 1, f"client {client} does not train once more ({reason}); use method='exact'")
    mean = tally.accumulator.result()["delta"].mean()
    return replace(state, params=moved(state.params, Vector(mean.schema, -mean.values / (peers - 1))))
