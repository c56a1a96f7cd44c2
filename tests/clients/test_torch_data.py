"""The forms of data that a `TorchClient` takes, and how many examples each counts for."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.errors import ConfigError, TooFewClients  # noqa: E402

from .torch_parts import LOSS, assert_close, by_hand, data, in_batches, mlp, sgd, simulate  # noqa: E402

X, Y = data()


class Rows(IterableDataset):
    """Single examples, of which nobody knows how many there are."""

    def __iter__(self):
        return iter([(X[i], Y[i]) for i in range(len(X))])


class Again:
    """Batches that can be gone through again, without a length."""

    def __iter__(self):
        return iter(in_batches(X, Y))


def read_only(tensor):
    array = tensor.numpy().copy()
    array.flags.writeable = False
    return array


FORMS = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "read-only arrays": (read_only(X), read_only(Y)),
    "backwards arrays": (X.numpy()[::-1][::-1], np.flip(np.flip(Y.numpy()))),
    "dataset": TensorDataset(X, Y),
    "loader": DataLoader(TensorDataset(X, Y), batch_size=8),
    "list of batches": in_batches(X, Y),
    "tuple of batches": tuple(in_batches(X, Y)),
    "list of numpy batches": [(x.numpy(), read_only(y)) for x, y in in_batches(X, Y)],
    "list of lists": [[x, y] for x, y in in_batches(X, Y)],
    "iterable": Again(),
    "iterable dataset": Rows(),
    "loader of an iterable dataset": DataLoader(Rows(), batch_size=8),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_data_gives_the_same_training_and_evaluation(form):
    def client_fn(context):
        return fl.TorchClient(mlp(), LOSS, sgd(), form, test_data=form, batch_size=8, shuffle=False, epochs=2)

    history = simulate(client_fn, fraction_evaluate=1.0)
    expected = by_hand(mlp(), in_batches(X, Y), sgd(), epochs=2)
    assert_close(history.parameters, expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert history.loss == pytest.approx(float(LOSS(expected(X), Y)), rel=1e-5)


def test_tables_are_arrays_too():
    pd = pytest.importorskip("pandas")
    table = (pd.DataFrame(X.numpy()), pd.Series(Y.numpy()))
    history = simulate(lambda context: fl.TorchClient(mlp(), LOSS, sgd(), table, batch_size=8, shuffle=False))
    assert_close(history.parameters, by_hand(mlp(), in_batches(X, Y), sgd()), rtol=1e-5, atol=1e-6)


def weight_of(train_data, **arguments):
    """How many examples a client counts for, as the coordinator's metrics see it."""
    counts = []

    def counted(metrics):
        counts.extend(examples for examples, _ in metrics)
        return {}

    simulate(
        lambda context: fl.TorchClient(mlp(), LOSS, sgd(), train_data, batch_size=8, **arguments),
        fit_metrics_aggregation_fn=counted,
    )
    return counts


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_client_counts_its_examples_once_whatever_the_epochs(form, epochs):
    assert weight_of(form, epochs=epochs) == [35]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_loader_counts_for_what_it_gives(epochs):
    rows = TensorDataset(X, Y)
    assert weight_of(DataLoader(rows, batch_size=8, drop_last=True), epochs=epochs) == [32]
    assert weight_of(DataLoader(rows, batch_size=8, sampler=SubsetRandomSampler(range(10))), epochs=epochs) == [10]
    assert weight_of(DataLoader(rows, batch_sampler=[[0, 1], [2, 3, 4]]), epochs=epochs) == [5]


def test_part_of_a_pass_counts_for_the_part():
    assert weight_of((X, Y), max_steps=2) == [16]
    assert weight_of(Again(), max_steps=2, epochs=2) == [16]
    assert weight_of((X, Y), max_steps=6, epochs=2) == [35]


def test_num_examples_is_known_before_training_where_there_is_a_length():
    def num_examples(form):
        return fl.TorchClient(mlp(), LOSS, sgd(), form).num_examples

    assert [num_examples(FORMS[name]) for name in ("tensors", "dataset", "loader")] == [35, 35, 35]
    loader = DataLoader(TensorDataset(X, Y), batch_size=8, sampler=SubsetRandomSampler(range(10)))
    assert num_examples(loader) == 10
    assert [num_examples(FORMS[name]) for name in ("iterable", "list of batches", "iterable dataset")] == [None] * 3


EMPTY = {
    "tensors": (X[:0], Y[:0]),
    "arrays": (X[:0].numpy(), Y[:0].numpy()),
    "dataset": TensorDataset(X[:0], Y[:0]),
    "loader": DataLoader(TensorDataset(X[:0], Y[:0]), batch_size=8),
    "list": [],
}


@pytest.mark.parametrize(
    "strategy",
    [fl.FedAvg(), fl.Scaffold(), fl.FedDyn(), fl.FedSGD(), fl.FedNova(), fl.QFedAvg(q=1.0)],
    ids=lambda strategy: type(strategy).__name__,
)
@pytest.mark.parametrize("form", EMPTY.values(), ids=EMPTY)
def test_a_client_without_data_is_no_failure_and_weighs_nothing(form, strategy):
    full = in_batches(X, Y)

    def client_fn(context):
        part = form if context.partition_id else full
        return fl.TorchClient(mlp(), LOSS, sgd(), part, test_data=part)

    history = simulate(client_fn, 2, strategy, fraction_evaluate=1.0)
    alone = simulate(
        lambda context: fl.TorchClient(mlp(), LOSS, sgd(), full, test_data=full), 1, strategy, fraction_evaluate=1.0
    )
    assert history.rounds[-1].participants == 2
    assert history.rounds[-1].failures == ()
    if type(strategy) is not fl.FedDyn:  # its mean is over clients, trained or not
        np.testing.assert_allclose(history.parameters["0.weight"], alone.parameters["0.weight"], rtol=1e-6)
        assert history.loss == pytest.approx(alone.loss)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ConfigError, match=r"the arrays of train_data differ in length: \[35, 34\]; they must be equal"):
        fl.TorchClient(mlp(), LOSS, sgd(), (X, Y[:-1]))
    with pytest.raises(ConfigError, match=r"the arrays of test_data differ in length: \[35, 34\]"):
        fl.TorchClient(mlp(), LOSS, sgd(), test_data={"x": X, "y": Y[:-1]})


def test_an_iterator_is_refused_because_a_second_pass_would_be_empty():
    with pytest.raises(ConfigError, match="train_data is a generator, which can be gone through only once; give a"):
        fl.TorchClient(mlp(), LOSS, sgd(), (batch for batch in in_batches(X, Y)))


def test_a_client_without_data_to_train_on_is_told_so():
    with pytest.raises(fl.NotSupported, match="FedAvg needs clients that can fit; TorchClient cannot"):
        simulate(lambda context: fl.TorchClient(mlp(), LOSS, sgd(), test_data=(X, Y)))


def test_a_clients_own_sentence_reaches_the_server():
    with pytest.raises(TooFewClients, match="mat1 and mat2"):
        simulate(lambda context: fl.TorchClient(mlp(), LOSS, sgd(), (X[:, :4], Y)))
