"""`Subject`: the run or plan that a report is about, with the parts that its privacy makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from umbel.arrays import Arrays
from umbel.coordinators import ServerConfig
from umbel.errors import ConfigError
from umbel.privacy.promised import Promised
from umbel.runtimes.app import App
from umbel.runtimes.history import Release
from umbel.runtimes.privately import Parts
from umbel.runtimes.routed import settled
from umbel.runtimes.run import Run
from umbel.runtimes.unsound import unsound
from umbel.strategy import Strategy


@final
@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a report is about.

    Attributes:
        app: whose clients take part.
        run: what it describes.
        settings: the app's.
        id: of a run that was led; empty for a plan.
        released: the last model of that run.
        spent: its ledger.
        finished: how many rounds its log says were finished.
        log_problem: what is wrong with its log, in a sentence; empty if nothing is.
        without: clients that it was led without.
    """

    app: App
    run: Run
    settings: Mapping[str, Any]
    id: str = ""
    released: Arrays | None = None
    spent: tuple[Release, ...] = ()
    finished: int = 0
    log_problem: str = ""
    without: tuple[str, ...] = ()

    @property
    def strategy(self) -> Strategy:
        return settled(self.run.strategy, self.run.config)[0]

    @property
    def config(self) -> ServerConfig:
        return settled(self.run.strategy, self.run.config)[1]

    @property
    def _initial(self) -> Any:
        return self._given.get("initial_parameters", self.run.initial_parameters)

    @property
    def per_client(self) -> bool:
        """Whether a function sees each client's metrics."""
        return bool({"fit_metrics_aggregation_fn", "evaluate_metrics_aggregation_fn"} & self._given.keys())

    @property
    def _given(self) -> Mapping[str, Any]:
        return settled(self.run.strategy, self.run.config)[2]

    @cached_property
    def refusals(self) -> tuple[str, ...]:
        """Why the run would be refused under its privacy plan; empty where it would not, or has none."""
        plan, run = self.run.privacy, self.run
        if plan is None:
            return ()
        found = unsound(
            self.strategy,
            plan,
            self.config,
            coordinator=run.coordinator,
            system=run.system,
            per_client=self.per_client,
        )
        sentences = list(found)
        if not sentences:
            try:
                strategy = self._parts().strategy
                # The model's arrays and the update's groups; which of them are averaged, only a client knows.
                strategy.init(Arrays.of(self._initial))
            except ConfigError as error:
                sentences.append(str(error))
        return tuple(sentences)

    @cached_property
    def parts(self) -> Parts | None:
        """What the plan makes of the run's parts; None where there is no plan, or it would be refused."""
        return None if self.run.privacy is None or self.refusals else self._parts()

    @property
    def promised(self) -> Promised | None:
        """The strategy under the plan."""
        strategy = None if self.parts is None else self.parts.strategy
        return strategy if isinstance(strategy, Promised) else None

    def _parts(self) -> Parts:
        assert self.run.privacy is not None
        return Parts(self.strategy, self.config, self.run.coordinator).under(
            self.run.privacy,
            self.run.num_clients,
            has_model=self._initial is not None,
            system=self.run.system,
            per_client=self.per_client,
        )
