"""Points that Optuna asks for."""

from __future__ import annotations

import importlib
import json
from typing import Any, final

from umbel.runtimes.sweep.search import Checked, Search
from umbel.runtimes.sweep.space import Point, Range

optuna: Any = importlib.import_module("optuna")


@final
class Optuna(Search):
    """Tree-structured Parzen estimators: after ten random points, those like the good ones so far.

    Its study lives in memory. A sweep that goes on asks and tells from the beginning, with the values of finished runs:
    the same seed and values lead to the same points.

    References:
        Bergstra, Bardenet, Bengio, Kégl: Algorithms for Hyper-Parameter Optimization, 2011.
        https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization
    """

    def __init__(self, space: Checked, count: int, seed: int, less_is_better: bool) -> None:
        self._space, self.count = space, count
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce its study
        try:
            self._study = optuna.create_study(
                direction="minimize" if less_is_better else "maximize",
                sampler=optuna.samplers.TPESampler(seed=seed % 2**32),
            )
        finally:
            optuna.logging.set_verbosity(before)
        self._trial: Any = None

    def ask(self, trial: int) -> Point:
        self._trial = self._study.ask()
        return {name: self._suggested(name, values) for name, values in self._space.items()}

    def _suggested(self, name: str, values: tuple[Any, ...] | Range) -> Any:
        if not isinstance(values, Range):
            # As text: Optuna takes no lists as categories, and 1, 1.0 and True for one.
            return json.loads(self._trial.suggest_categorical(name, [json.dumps(value) for value in values]))
        if values.whole:
            return int(self._trial.suggest_int(name, values.low, values.high, log=values.log))
        return values.rounded(self._trial.suggest_float(name, values.low, values.high, log=values.log))

    def tell(self, value: float | None) -> None:
        failed = optuna.trial.TrialState.FAIL
        self._study.tell(self._trial, value, state=failed if value is None else None)
