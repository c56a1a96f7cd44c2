"""Points that Optuna asks for."""

from __future__ import annotations

import importlib
import json
from typing import Any, final

from umbel.errors import ConfigError
from umbel.runtimes.sweep.search import Checked, Search
from umbel.runtimes.sweep.space import Point, Range

optuna: Any = importlib.import_module("optuna")


@final
class Optuna(Search):
    """Tree-structured Parzen estimators: after ten random points, those like the good ones so far.

    Its study lives in memory. A sweep that goes on asks and tells from the beginning, with the values of finished runs:
    the same seed and values lead to the same points.

    Args:
        pruner: "median", "halving", or one of Optuna's; None prunes nothing.

    References:
        Bergstra, Bardenet, Bengio, Kégl: Algorithms for Hyper-Parameter Optimization, 2011.
        https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization
    """

    def __init__(self, space: Checked, count: int, seed: int, less_is_better: bool, pruner: Any = None) -> None:
        self._space, self.count = space, count
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce its study
        try:
            self._study = optuna.create_study(
                direction="minimize" if less_is_better else "maximize",
                study_name="sweep",  # some pruners draw by it, and one that Optuna makes up is never the same
                pruner=_pruner(pruner),
                sampler=optuna.samplers.TPESampler(seed=seed % 2**32),
            )
        finally:
            optuna.logging.set_verbosity(before)
        self._trial: Any = None
        self._steps: set[int] = set()

    def ask(self, trial: int) -> Point:
        self._trial, self._steps = self._study.ask(), set()
        return {name: self._suggested(name, values) for name, values in self._space.items()}

    def _suggested(self, name: str, values: tuple[Any, ...] | Range) -> Any:
        if not isinstance(values, Range):
            # As text: Optuna takes no lists as categories, and 1, 1.0 and True for one.
            return json.loads(self._trial.suggest_categorical(name, [json.dumps(value) for value in values]))
        if values.whole:
            return int(self._trial.suggest_int(name, values.low, values.high, log=values.log))
        return values.rounded(self._trial.suggest_float(name, values.low, values.high, log=values.log))

    def prunes(self, step: int, value: float) -> bool:
        if step in self._steps:  # a round that was played again, because the sweep broke off before it was kept
            return False
        self._steps.add(step)
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def tell_pruned(self) -> None:
        self._study.tell(self._trial, state=optuna.trial.TrialState.PRUNED)

    def tell(self, value: float | None) -> None:
        failed = optuna.trial.TrialState.FAIL
        self._study.tell(self._trial, value, state=failed if value is None else None)


def _pruner(wanted: Any) -> Any:
    """The pruner that the argument means.

    Raises:
        ConfigError: it is none.
    """
    if wanted is None:
        return optuna.pruners.NopPruner()
    if isinstance(wanted, optuna.pruners.BasePruner):
        return wanted
    known = {"median": optuna.pruners.MedianPruner, "halving": optuna.pruners.SuccessiveHalvingPruner}
    if wanted not in known:
        raise ConfigError(f'pruner must be "median", "halving" or one of optuna.pruners, got {wanted!r}')
    return known[wanted]()
