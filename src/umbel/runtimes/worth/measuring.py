"""What a model is worth: measured on the same data, whoever trained it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from umbel.cohort import Asks
from umbel.runtimes.central import Central
from umbel.runtimes.measures import mapping_of, means, summary
from umbel.runtimes.program import Program
from umbel.runtimes.serial import SerialEngine
from umbel.runtimes.session import Hooks
from umbel.strategy import State


@final
@dataclass(frozen=True)
class Measuring:
    """Lets all clients evaluate a model, those that had no part in it too, and the server if it has a function.

    Args:
        clients: who evaluates; nobody if the run asks nobody to.
    """

    program: Program
    hooks: Hooks
    clients: tuple[str, ...]

    def measure(self, state: State, round: int, states: Mapping[str, bytes]) -> dict[str, float]:
        """Name → value, as a round's record has them.

        Args:
            round: after which it is measured; clients draw their randomness from it.
            states: what clients keep at home, by client.
        """
        federated: dict[str, float] = {}
        if self.clients:
            config_fn = self.hooks.on_evaluate_config_fn
            config = {} if config_fn is None else mapping_of(config_fn, config_fn(round))
            task = replace(self.program.strategy.task(state, round), config={"server_round": round, **config})
            tally = SerialEngine(self.program).play(Asks(self.clients, "evaluate", task), states)
            federated = means(tally, self.hooks.evaluate_metrics)
        central, _ = Central(self.hooks.evaluate_fn, round, state.params).result()
        found: dict[str, Any] = summary({}, federated, central)
        loss = {} if found["loss"] is None else {"loss": found["loss"]}
        return {**found["metrics"], **loss}
