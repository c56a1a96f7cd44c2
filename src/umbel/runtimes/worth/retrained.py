"""What a coalition is worth if it trains alone: the whole program is run again with these clients and no others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from umbel.errors import RoundError
from umbel.runtimes import checkpoint
from umbel.runtimes.simulate import simulate
from umbel.runtimes.worth.federation import Federation
from umbel.runtimes.worth.game import Coalition
from umbel.stores import MemoryStore


@final
@dataclass(frozen=True)
class Trained:
    """What a coalition came to.

    Attributes:
        metrics: of its model, measured by everybody.
        stuck: whether a round could not be closed: the model is that of the round before.
        digest: of its model.
    """

    metrics: dict[str, float]
    stuck: bool
    digest: str


def trained(federation: Federation, coalition: Coalition) -> Trained:
    """The model of one coalition; nobody leaves the first model as it is."""
    config, measure = federation.config, federation.measuring.measure
    if not coalition:
        state = federation.strategy.init(federation.initial)
        return Trained(measure(state, 0, {}), False, state.params.digest)
    store, stuck = MemoryStore(), False
    try:
        _simulated(federation, coalition, store)
    except RoundError:
        stuck = True
    info = store.runs()[-1]
    reached, state, _, _ = checkpoint.latest(store, info.id)
    states = store.states(info.id, federation.measuring.clients, reached)
    # Whoever draws something in an evaluation draws it as in the run's last round.
    metrics = measure(state, reached if federation.follows else config.num_rounds, states)
    return Trained(metrics, stuck, state.params.digest)


def _simulated(federation: Federation, coalition: Coalition, store: MemoryStore) -> None:
    """Run the program with this coalition. Evaluation on the way is left out where nothing hangs on it."""
    config, given = federation.config, dict(federation.rest)
    config = replace(config, min_available_clients=None, checkpoint_every=1)
    hooks = dict(federation.hooks)
    if not federation.follows:
        config = replace(config, fraction_evaluate=0.0)
        hooks |= {"evaluate_fn": None}
    simulate(
        federation.client_fn,
        federation.num_clients,
        strategy=federation.strategy,
        config=config,
        initial_parameters=federation.initial,
        attributes=federation.attributes,
        without=[client for client in map(str, range(federation.num_clients)) if client not in coalition],
        store=store,
        progress=False,
        **{"engine": "serial", **given},
        **hooks,
    )
