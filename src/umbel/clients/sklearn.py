"""`SklearnClient`: a scikit-learn estimator with coefficients as a client."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier  # pyright: ignore[reportUnknownVariableType]
from sklearn.metrics import log_loss  # pyright: ignore[reportUnknownVariableType]

from umbel.arrays import Arrays
from umbel.clients.arguments import is_whole
from umbel.clients.coerce import from_user
from umbel.errors import ArraysError, ConfigError
from umbel.local_client import Capability, Fitted, LocalClient
from umbel.message import Context, Evaluation, require

_LINEAR = ("coef_", "intercept_")


@final
class SklearnClient(LocalClient):
    """An estimator that learns on from given coefficients.

    Linear models (`SGDClassifier`, `LogisticRegression(warm_start=True)`, `SGDRegressor`, …) and neural networks
    (`MLPClassifier`, `MLPRegressor`) are understood. Those with `partial_fit` take `epochs` passes, others one `fit`.

    Args:
        estimator: not fitted yet, or fitted; its hyper-parameters are the user's. It is not touched: each turn works
            on a copy that remembers nothing but the given coefficients.
        train_data: (x, y) with x of shape (n, features), arrays or tables; n may be 0.
        test_data: (x, y) to evaluate on; None leaves evaluation out.
        classes: all labels of all clients, which a classifier must know from the start.
        epochs: passes of `partial_fit` over the data per turn, at least 0.

    Raises:
        ConfigError: a classifier without `classes`, labels that are not among them, or an estimator that cannot learn
            on from given coefficients.
    """

    def __init__(
        self,
        estimator: Any,
        train_data: tuple[Any, Any],
        *,
        test_data: tuple[Any, Any] | None = None,
        classes: Sequence[Any] | NDArray[Any] | None = None,
        epochs: int = 1,
    ) -> None:
        require(is_whole(epochs, 0), f"epochs must be a whole number of at least 0, got {epochs!r}; try 1")
        _check_estimator(estimator, classes)
        self._classes = None if classes is None else np.unique(np.asarray(classes))
        self._train = self._checked("train_data", train_data)
        self._test = None if test_data is None else self._checked("test_data", test_data)
        self._epochs = epochs
        # Here and not when it is needed: making the first coefficients draws from NumPy's generator, which is seeded
        # again between the building of a client and its turn.
        self._blank = _prepared(estimator, self._train, self._classes)
        self.estimator = estimator
        self.capabilities: frozenset[Capability] = frozenset(("fit",) if test_data is None else ("fit", "evaluate"))

    def _checked(self, name: str, data: tuple[Any, Any]) -> tuple[Any, Any]:
        """(x, y) as arrays, y as a row where it is a single column."""
        x, y = (part.to_numpy() if hasattr(part, "to_numpy") else part for part in data)
        x, y = (part if hasattr(part, "shape") else np.asarray(part) for part in (x, y))
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if self._classes is not None and not np.isin(y, self._classes).all():
            extra = np.setdiff1d(y, self._classes).tolist()
            raise ConfigError(
                f"{name} has the labels {extra}, which are not in classes={self._classes.tolist()}; classes must list "
                "all labels that any client has"
            )
        return x, y

    def parameters(self, ctx: Context) -> Arrays:
        return Arrays.of(_values(self._blank))

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        x, y = self._train
        estimator = self._loaded(start)
        if x.shape[0] and hasattr(estimator, "partial_fit"):
            for _ in range(self._epochs):
                estimator.partial_fit(x, y, **_known(self._classes))
        elif x.shape[0]:
            self._fit_whole(estimator, x, y)
        return Fitted(from_user(ctx.client, _values(estimator), start.schema), x.shape[0])

    def _fit_whole(self, estimator: Any, x: Any, y: Any) -> None:
        if self._classes is not None and len(np.unique(y)) < len(self._classes):
            missing = np.setdiff1d(self._classes, y).tolist()
            raise ConfigError(
                f"{type(estimator).__name__}.fit needs every class, this client lacks {missing}; use SGDClassifier"
            )
        estimator.fit(x, y)

    def _loaded(self, arrays: Arrays) -> Any:
        """A copy of the estimator with these coefficients, in its own dtypes."""
        estimator = copy.deepcopy(self._blank)
        own = _values(estimator)
        if arrays.keys() != own.keys():
            raise ArraysError(
                f"the task has the arrays {', '.join(arrays)}, a {type(estimator).__name__} has {', '.join(own)}; give "
                "initial_parameters by these names, or none"
            )
        values = {name: np.array(arrays[name], dtype=value.dtype) for name, value in own.items()}
        for name, value in values.items():
            if value.shape != own[name].shape:
                raise ArraysError(
                    f"array {name!r} has shape {value.shape} in the task and {own[name].shape} in this client's "
                    f"{type(estimator).__name__}; do all clients have the same features and classes?"
                )
        if hasattr(estimator, "coefs_"):
            count = len(estimator.coefs_)
            estimator.coefs_ = [values[f"{n}.coef"] for n in range(count)]
            estimator.intercepts_ = [values[f"{n}.intercept"] for n in range(count)]
        else:
            for name, value in values.items():
                # Some estimators keep an intercept that is a plain number.
                setattr(estimator, name, value.reshape(np.shape(getattr(estimator, name)))[()])
        return estimator

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        assert self._test is not None
        x, y = self._test
        estimator = self._loaded(model)
        if not x.shape[0]:
            return Evaluation(0.0, 0.0)
        predicted: NDArray[Any] = estimator.predict(x)
        if self._classes is None:
            return Evaluation(float(np.mean(np.square(np.subtract(predicted, y)))), x.shape[0])
        accuracy = float(np.mean(np.equal(predicted, y)))
        try:
            loss = float(log_loss(y, estimator.predict_proba(x), labels=self._classes))
        except AttributeError:
            # A hinge loss gives no probabilities; what there is to minimise is the error.
            loss = 1.0 - accuracy
        return Evaluation(loss, x.shape[0], {"accuracy": accuracy})


def _check_estimator(estimator: Any, classes: Any) -> None:
    name = type(estimator).__name__
    if is_classifier(estimator) and classes is None:
        raise ConfigError(f"{name} needs classes=[...], all labels that any client has; np.unique of the full list")
    if not hasattr(estimator, "partial_fit") and not getattr(estimator, "warm_start", False):
        how = "set warm_start=True" if hasattr(estimator, "warm_start") else "use SGDClassifier or SGDRegressor"
        raise ConfigError(f"{name} cannot learn on from given coefficients; {how}")
    if getattr(estimator, "solver", None) == "liblinear":
        raise ConfigError(f'{name}(solver="liblinear") does not learn on from given coefficients; use solver="lbfgs"')
    if getattr(estimator, "average", False):
        raise ConfigError(
            f"{name}(average={estimator.average!r}) learns on from coefficients that it hides; set average=False"
        )


def _prepared(estimator: Any, data: tuple[Any, Any], classes: NDArray[Any] | None) -> Any:
    """A copy with coefficients to overwrite: a first short fit on rows that make it know its shapes."""
    result = copy.deepcopy(estimator)
    if not any(hasattr(result, name) for name in ("coef_", "coefs_")):
        x, y = data
        count = 2 if classes is None else max(2, len(classes))
        rows = np.zeros((count, x.shape[1]), x.dtype)
        # Ones, because some losses take the logarithm of a target.
        labels = np.ones((count, *y.shape[1:])) if classes is None else np.resize(classes, count)
        if hasattr(result, "partial_fit"):
            result.partial_fit(rows, labels, **_known(classes))
        else:
            result.fit(rows, labels)
        if hasattr(result, "coef_"):
            for name in _LINEAR:
                setattr(result, name, np.zeros_like(getattr(result, name)))
    if not any(hasattr(result, name) for name in ("coef_", "coefs_")):
        raise ConfigError(
            f"a {type(result).__name__} has no coefficients that could be averaged; use a linear model or an "
            "MLPClassifier or MLPRegressor"
        )
    _forget(result)
    return result


def _forget(estimator: Any) -> None:
    """Take away what earlier steps left in it besides coefficients: an optimiser and step counts."""
    if hasattr(estimator, "_optimizer"):
        # It holds the arrays from before; without it a turn starts with a new one.
        del estimator._optimizer
    if hasattr(estimator, "t_"):
        estimator.t_ = type(estimator.t_)(0 if hasattr(estimator, "coefs_") else 1)


def _known(classes: NDArray[Any] | None) -> dict[str, Any]:
    return {} if classes is None else {"classes": classes}


def _values(estimator: Any) -> dict[str, NDArray[Any]]:
    if not hasattr(estimator, "coefs_"):
        return {name: np.atleast_1d(getattr(estimator, name)) for name in _LINEAR if hasattr(estimator, name)}
    layers = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    return {
        f"{n}.{kind}": array
        for n, pair in enumerate(layers)
        for kind, array in zip(("coef", "intercept"), pair, strict=True)
    }
