"""`SklearnClient`: estimators that learn on from given coefficients, and the sentence for those that do not."""

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")

from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.linear_model import (  # noqa: E402
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.metrics import log_loss  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.errors import ConfigError, TooFewClients  # noqa: E402
from umbel.message import Context  # noqa: E402
from umbel.testing import check_client  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4))
TARGET = X @ np.array([1.0, 2.0, -1.0, 0.5]) + 1.0
TWO = (TARGET > 1.0).astype(int)
THREE = np.digitize(TARGET, [0.0, 2.0])


def simulate(client_fn, clients=3, rounds=1, **more):
    config = fl.ServerConfig(num_rounds=rounds, seed=1)
    return fl.simulate(client_fn, clients, config=config, **{"engine": "serial", "progress": False, **more})


def part(index, y):
    return X[index::3], y[index::3]


CLASSIFIERS = {
    "sgd, hinge": (lambda: SGDClassifier(), TWO),
    "sgd, three classes": (lambda: SGDClassifier(loss="log_loss"), THREE),
    "perceptron": (lambda: Perceptron(), TWO),
    "logistic regression": (lambda: LogisticRegression(warm_start=True), THREE),
    "network": (lambda: MLPClassifier((8,), learning_rate_init=0.05), TWO),
}
REGRESSORS = {
    "sgd": (lambda: SGDRegressor(), TARGET),
    "lasso": (lambda: Lasso(alpha=0.001, warm_start=True), TARGET),
    "huber": (lambda: HuberRegressor(warm_start=True), TARGET),
    "poisson": (lambda: PoissonRegressor(alpha=0.0, warm_start=True), np.exp(TARGET / 4)),
    "network": (lambda: MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.05), TARGET),
}


@pytest.mark.parametrize(("make", "y"), CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_classifiers_learn_what_three_clients_know(make, y):
    classes = np.unique(y)
    history = simulate(
        lambda context: fl.SklearnClient(
            make(), part(context.partition_id, y), test_data=(X, y), classes=classes, epochs=5
        ),
        rounds=10,
    )
    assert all(record.failures == () for record in history.rounds)
    assert history.metrics["accuracy"] > 0.85  # guessing gives at most 0.5


@pytest.mark.parametrize(("make", "y"), REGRESSORS.values(), ids=REGRESSORS)
def test_regressors_learn_what_three_clients_know(make, y):
    history = simulate(
        lambda context: fl.SklearnClient(make(), part(context.partition_id, y), test_data=(X, y), epochs=5), rounds=10
    )
    assert all(record.failures == () for record in history.rounds)
    assert history.loss < 0.1 * np.var(y)


def test_one_client_is_partial_fit_from_zero():
    estimator = SGDClassifier(loss="log_loss", random_state=3)
    history = simulate(
        lambda context: fl.SklearnClient(estimator, (X, TWO), test_data=(X, TWO), classes=[0, 1], epochs=4), 1
    )
    alone = SGDClassifier(loss="log_loss", random_state=3)
    for _ in range(4):
        alone.partial_fit(X, TWO, classes=[0, 1])
    np.testing.assert_allclose(history.parameters["coef_"], alone.coef_, rtol=1e-12)
    np.testing.assert_allclose(history.parameters["intercept_"], alone.intercept_, rtol=1e-12)
    assert history.loss == pytest.approx(log_loss(TWO, alone.predict_proba(X)))
    assert history.metrics["accuracy"] == pytest.approx(alone.score(X, TWO))


def test_fedavg_is_the_mean_of_coefficients_weighted_by_examples():
    sizes = (10, 30, 50)

    def client_fn(context):
        size = sizes[context.partition_id]
        return fl.SklearnClient(SGDRegressor(random_state=context.partition_id), (X[:size], TARGET[:size]))

    history = simulate(client_fn)
    ends = [SGDRegressor(random_state=i).partial_fit(X[:size], TARGET[:size]) for i, size in enumerate(sizes)]
    expected = sum(size * end.coef_ for size, end in zip(sizes, ends, strict=True)) / sum(sizes)
    np.testing.assert_allclose(history.parameters["coef_"], expected, rtol=1e-12)


def test_loading_coefficients_replaces_what_was_learned():
    client = fl.SklearnClient(SGDRegressor(random_state=0), (X, TARGET), test_data=(X, TARGET))
    ctx = Context("0", 0, 1)
    start = client.parameters(ctx)
    first = client.fit_arrays(start, ctx)
    again = client.fit_arrays(start, ctx)
    assert all((first.arrays[name] == again.arrays[name]).all() for name in start)
    assert client.evaluate_arrays(start, ctx).loss == pytest.approx(np.mean(TARGET**2))  # all zero


@pytest.mark.parametrize(
    "make",
    [lambda: SGDClassifier(random_state=0), lambda: MLPClassifier((4,), random_state=0)],
    ids=["sgd", "network"],
)
def test_a_fitted_estimator_trains_from_the_given_coefficients_as_a_new_one_does(make):
    fitted, ctx = make(), Context("0", 0, 1)
    for _ in range(5):
        fitted.partial_fit(X, THREE, classes=[0, 1, 2])
    new, old = (fl.SklearnClient(e, (X, THREE), classes=[0, 1, 2]) for e in (make(), fitted))
    start = new.parameters(ctx)
    assert old.parameters(ctx) != start
    ends = [client.fit_arrays(start, ctx).arrays for client in (new, old)]
    for name in start:
        np.testing.assert_array_equal(ends[0][name], ends[1][name])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGDClassifier(),
        lambda: LogisticRegression(warm_start=True),
        lambda: MLPClassifier((4,), solver="sgd", learning_rate="adaptive"),
        lambda: MLPClassifier((4,), random_state=np.random.RandomState(0)),
    ],
)
def test_the_clients_kit_passes_and_the_estimator_is_not_touched(make):
    estimator = make()
    for shared in (True, False):
        check_client(
            lambda context, s=shared: fl.SklearnClient(
                estimator if s else make(), (X, TWO), test_data=(X, TWO), classes=[0, 1]
            )
        )
    assert not hasattr(estimator, "classes_")


@pytest.mark.parametrize("make", [lambda: SGDClassifier(), lambda: MLPClassifier((4,))], ids=["sgd", "network"])
def test_a_shared_estimator_and_one_built_anew_give_the_same_bits_for_any_number_of_workers(make):
    estimator = make()

    def run(shared, engine, workers):
        return simulate(
            lambda context: fl.SklearnClient(
                estimator if shared else make(), part(context.partition_id, TWO), classes=[0, 1], epochs=2
            ),
            rounds=2,
            engine=engine,
            workers=workers,
        ).parameters

    first = run(True, "serial", None)
    assert all(
        run(shared, *engine) == first
        for shared in (True, False)
        for engine in (("serial", None), ("pool", 1), ("pool", 2))
    )


def test_a_class_that_one_client_lacks_is_learned_from_the_others():
    def client_fn(context):
        rows = context.partition_id != THREE  # client i lacks class i
        return fl.SklearnClient(
            SGDClassifier(loss="log_loss"), (X[rows], THREE[rows]), test_data=(X, THREE), classes=[0, 1, 2], epochs=5
        )

    history = simulate(client_fn, rounds=10)
    assert history.metrics["accuracy"] > 0.7
    assert history.parameters["coef_"].shape == (3, 4)


def test_fit_from_scratch_needs_every_class_and_says_which_one_is_missing():
    def client_fn(context):
        rows = THREE != 1 if context.partition_id == 1 else slice(None)
        return fl.SklearnClient(LogisticRegression(warm_start=True), (X[rows], THREE[rows]), classes=[0, 1, 2])

    history = simulate(client_fn)
    assert [(f.client, f.reason) for f in history.rounds[-1].failures] == [
        ("1", "ConfigError: LogisticRegression.fit needs every class, this client lacks [1]; use SGDClassifier")
    ]


@pytest.mark.parametrize("make", [lambda: SGDClassifier(), lambda: LogisticRegression(warm_start=True)])
def test_a_client_without_rows_weighs_nothing(make):
    def client_fn(context):
        rows = slice(0, 0) if context.partition_id else slice(None)
        data = X[rows], TWO[rows]
        return fl.SklearnClient(make(), data, test_data=data, classes=[0, 1])

    both, alone = simulate(client_fn, 2), simulate(client_fn, 1)
    assert both.rounds[-1].failures == ()
    np.testing.assert_allclose(both.parameters["coef_"], alone.parameters["coef_"], rtol=1e-12)
    assert both.loss == alone.loss


def test_labels_may_be_text():
    names = np.array(["low", "mid", "high"])
    history = simulate(
        lambda context: fl.SklearnClient(
            SGDClassifier(loss="log_loss"),
            part(context.partition_id, names[THREE]),
            test_data=(X, names[THREE]),
            classes=names,
            epochs=5,
        ),
        rounds=5,
    )
    assert history.metrics["accuracy"] > 0.8


def test_tables_lists_and_columns_are_data_too():
    pd = pytest.importorskip("pandas")
    plain = (X, TARGET)
    forms = [
        plain,
        (pd.DataFrame(X, columns=list("abcd")), pd.Series(TARGET)),
        (pd.DataFrame(X, columns=list("abcd")), pd.DataFrame({"y": TARGET})),
        (X.tolist(), TARGET.tolist()),
        (X, TARGET.reshape(-1, 1)),
    ]
    runs = [simulate(lambda context, d=data: fl.SklearnClient(SGDRegressor(), d, test_data=d), 1) for data in forms]
    assert all(run.parameters == runs[0].parameters for run in runs)
    assert all(run.loss == runs[0].loss for run in runs)


def test_single_precision_rows_and_double_initial_parameters_go_together():
    history = simulate(
        lambda context: fl.SklearnClient(SGDClassifier(), (X.astype(np.float32), TWO), classes=[0, 1]),
        initial_parameters={"coef_": np.zeros((1, 4)), "intercept_": np.zeros(1)},
    )
    assert history.rounds[-1].failures == ()
    assert history.parameters["coef_"].dtype == np.float64


def test_networks_with_several_targets_have_an_output_for_each():
    y = np.stack([TARGET, -TARGET], axis=1)
    history = simulate(
        lambda context: fl.SklearnClient(MLPRegressor(hidden_layer_sizes=(5,)), (X, y), test_data=(X, y))
    )
    assert history.parameters["1.coef"].shape == (5, 2)
    assert history.loss is not None


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (LinearRegression(), "LinearRegression cannot learn on from given coefficients; use SGDClassifier or SGDRegr"),
        (Ridge(), "Ridge cannot learn on from given coefficients; use SGDClassifier or SGDRegressor"),
        (SVC(), "SVC cannot learn on from given coefficients"),
        (make_pipeline(StandardScaler(), SGDRegressor()), "Pipeline cannot learn on from given coefficients"),
        (LogisticRegression(), "LogisticRegression cannot learn on from given coefficients; set warm_start=True"),
        (
            LogisticRegression(solver="liblinear", warm_start=True),
            r'LogisticRegression\(solver="liblinear"\) does not learn on from given coefficients; use solver="lbfgs"',
        ),
        (SGDClassifier(average=True), r"SGDClassifier\(average=True\) learns on from coefficients that it hides; set"),
        (GaussianNB(), "a GaussianNB has no coefficients that could be averaged; use a linear model or an MLP"),
        (RandomForestClassifier(2, warm_start=True), "a RandomForestClassifier has no coefficients that could be"),
    ],
)
def test_estimators_that_cannot_learn_on_are_refused_with_what_to_use(estimator, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fl.SklearnClient(estimator, (X, TWO), classes=[0, 1])


def test_classes_are_needed_and_must_hold_every_label():
    with pytest.raises(ConfigError, match=r"SGDClassifier needs classes=\[...\], all labels that any client has"):
        fl.SklearnClient(SGDClassifier(), (X, TWO))
    with pytest.raises(ConfigError, match=r"train_data has the labels \[2\], which are not in classes=\[0, 1\]"):
        fl.SklearnClient(SGDClassifier(), (X, THREE), classes=[0, 1])
    with pytest.raises(ConfigError, match="epochs must be a whole number of at least 0, got -1"):
        fl.SklearnClient(SGDRegressor(), (X, TARGET), epochs=-1)


def test_other_arrays_or_shapes_in_the_task_are_named():
    def run(**more):
        return simulate(lambda context: fl.SklearnClient(SGDRegressor(), (X, TARGET)), **more)

    with pytest.raises(TooFewClients, match="the task has the arrays 0, 1, a SGDRegressor has coef_, intercept_; give"):
        run(initial_parameters=[np.zeros(4), np.zeros(1)])
    with pytest.raises(TooFewClients, match=r"array 'coef_' has shape \(5,\) in the task and \(4,\) in this client's"):
        run(initial_parameters={"coef_": np.zeros(5), "intercept_": np.zeros(1)})


def test_without_test_data_there_is_no_evaluation():
    client = fl.SklearnClient(SGDRegressor(), (X, TARGET))
    assert client.capabilities == {"fit"}
    history = simulate(lambda context: client)
    assert history.warnings == ("clients have no evaluate (or no test data); evaluation by clients is skipped",)
