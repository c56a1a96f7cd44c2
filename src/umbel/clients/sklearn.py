"""`SklearnClient`: a scikit-learn estimator with coefficients as a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier  # pyright: ignore[reportUnknownVariableType]
from sklearn.metrics import log_loss  # pyright: ignore[reportUnknownVariableType]

from umbel.arrays import Arrays
from umbel.clients.coerce import from_user
from umbel.errors import ConfigError
from umbel.local_client import Capability, Fitted, LocalClient
from umbel.message import Context, Evaluation

_LINEAR = ("coef_", "intercept_")
_LAYERED = ("coefs_", "intercepts_")


@final
class SklearnClient(LocalClient):
    """An estimator that learns on from given coefficients.

    Linear models (`SGDClassifier`, `LogisticRegression(warm_start=True)`, `SGDRegressor`, …) and neural networks
    (`MLPClassifier`, `MLPRegressor`) are understood. Those with `partial_fit` take `epochs` passes, others one `fit`.

    Args:
        estimator: not fitted yet, or fitted; its hyper-parameters are the user's.
        train_data: (x, y) with x of shape (n, features).
        test_data: (x, y) to evaluate on; None leaves evaluation out.
        classes: all labels of all clients, which a classifier must know from the start.
        epochs: passes of `partial_fit` over the data per turn.

    Raises:
        ConfigError: a classifier without `classes`, or an estimator that cannot learn on.
    """

    def __init__(
        self,
        estimator: Any,
        train_data: tuple[NDArray[Any], NDArray[Any]],
        *,
        test_data: tuple[NDArray[Any], NDArray[Any]] | None = None,
        classes: Sequence[Any] | NDArray[Any] | None = None,
        epochs: int = 1,
    ) -> None:
        self.estimator = estimator
        self._train, self._test, self._epochs = train_data, test_data, epochs
        name = type(estimator).__name__
        if is_classifier(estimator) and classes is None:
            raise ConfigError(f"{name} needs classes=[...], all labels that any client has; np.unique of the full list")
        if not hasattr(estimator, "partial_fit") and not getattr(estimator, "warm_start", False):
            raise ConfigError(
                f"{name} cannot learn on from given coefficients; set warm_start=True or use one with partial_fit"
            )
        self._classes = None if classes is None else np.unique(np.asarray(classes))
        capabilities: set[Capability] = {"fit"} if test_data is None else {"fit", "evaluate"}
        self.capabilities = frozenset(capabilities)

    def _values(self) -> dict[str, NDArray[Any]]:
        if hasattr(self.estimator, "coefs_"):
            layers = zip(self.estimator.coefs_, self.estimator.intercepts_, strict=True)
            return {
                f"{n}.{kind}": a
                for n, pair in enumerate(layers)
                for kind, a in zip(("coef", "intercept"), pair, strict=True)
            }
        return {name: np.atleast_1d(getattr(self.estimator, name)) for name in _LINEAR if hasattr(self.estimator, name)}

    def _prepare(self) -> None:
        """Give the estimator coefficients to overwrite: a first short fit on rows that make it know its shapes."""
        if any(hasattr(self.estimator, name) for name in (*_LINEAR, *_LAYERED)):
            return
        x, _ = self._train
        rows = np.zeros((max(2, len(self._classes) if self._classes is not None else 0), x.shape[1]), x.dtype)
        labels = np.resize(self._classes, len(rows)) if self._classes is not None else np.zeros(len(rows))
        if hasattr(self.estimator, "partial_fit"):
            extra = {"classes": self._classes} if self._classes is not None else {}
            self.estimator.partial_fit(rows, labels, **extra)
        else:
            self.estimator.fit(rows, labels)
        if hasattr(self.estimator, "coef_"):
            self.estimator.coef_ = np.zeros_like(self.estimator.coef_)
            self.estimator.intercept_ = np.zeros_like(self.estimator.intercept_)

    def _load(self, arrays: Arrays) -> None:
        self._prepare()
        values = {name: np.array(arrays[name]) for name in arrays}
        if hasattr(self.estimator, "coefs_"):
            count = len(self.estimator.coefs_)
            self.estimator.coefs_ = [values[f"{n}.coef"] for n in range(count)]
            self.estimator.intercepts_ = [values[f"{n}.intercept"] for n in range(count)]
            if hasattr(self.estimator, "_optimizer"):
                # The network's own optimiser holds the old arrays; a turn starts with a new one.
                del self.estimator._optimizer
                self.estimator.t_ = 0
            return
        for name, value in values.items():
            setattr(self.estimator, name, value)
        if hasattr(self.estimator, "t_"):
            self.estimator.t_ = 1.0

    def parameters(self, ctx: Context) -> Arrays:
        self._prepare()
        return Arrays.of(self._values())

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        x, y = self._train
        self._load(start)
        if len(x) and hasattr(self.estimator, "partial_fit"):
            for _ in range(self._epochs):
                extra = {"classes": self._classes} if self._classes is not None else {}
                self.estimator.partial_fit(x, y, **extra)
        elif len(x):
            self._fit_whole(x, y)
        return Fitted(from_user(ctx.client, self._values(), start.schema), len(x))

    def _fit_whole(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        if self._classes is not None and len(np.unique(y)) < len(self._classes):
            missing = sorted(set(self._classes.tolist()) - set(np.unique(y).tolist()))
            raise ConfigError(
                f"{type(self.estimator).__name__}.fit needs every class, this client lacks {missing}; use SGDClassifier"
            )
        self.estimator.fit(x, y)

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        assert self._test is not None
        x, y = self._test
        self._load(model)
        if not len(x):
            return Evaluation(0.0, 0.0)
        predicted: NDArray[Any] = self.estimator.predict(x)
        if self._classes is None:
            return Evaluation(float(np.mean(np.square(np.subtract(predicted, y)))), len(x))
        accuracy = float(np.mean(np.equal(predicted, y)))
        try:
            loss = float(log_loss(y, self.estimator.predict_proba(x), labels=self._classes))
        except AttributeError:
            loss = 1.0 - accuracy
        return Evaluation(loss, len(x), {"accuracy": accuracy})
