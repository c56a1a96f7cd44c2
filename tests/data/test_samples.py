"""Every kind of data and labels that `split` takes."""

import numpy as np
import pytest

from umbel.data import IID, DirichletLabels, NaturalId, Shards
from umbel.errors import ConfigError

LABELS = ["a", "b", "b", "a", "c", "a", "b", "c"]


def parts(partition):
    return [part.tolist() for part in partition]


def test_the_kind_of_container_does_not_change_the_split():
    import datasets
    import pandas as pd

    expected = parts(Shards(2).split(np.array(LABELS)))
    frame = pd.DataFrame({"x": range(8), "y": LABELS}, index=range(100, 108))
    for data, labels in [
        (LABELS, None),
        (8, LABELS),
        (np.int64(8), np.array(LABELS, dtype=object)),
        (np.zeros((8, 3)), LABELS),
        ({"x": np.arange(8), "y": np.array(LABELS)}, "y"),
        (frame, "y"),
        (frame, frame["y"]),
        (frame["y"], None),
        (frame.astype({"y": "category"}), "y"),
        (datasets.Dataset.from_dict({"x": list(range(8)), "y": LABELS}), "y"),
    ]:
        assert parts(Shards(2).split(data, labels=labels)) == expected


def test_labels_of_any_ordered_kind_number_the_same_classes():
    codes = np.array([0, 1, 1, 0, 2, 0, 1, 2])
    expected = parts(Shards(2).split(codes))
    for labels in (codes.astype(np.uint8), codes.astype(np.float32), codes - 5, np.array(["x", "y", "z"])[codes]):
        assert parts(Shards(2).split(8, labels=labels)) == expected


def test_hugging_face_class_labels_are_read():
    import datasets

    codes = [0, 1, 1, 0]
    features = datasets.Features({"y": datasets.ClassLabel(names=["no", "yes"])})
    dataset = datasets.Dataset.from_dict({"y": codes}, features=features)
    assert parts(Shards(2).split(dataset, labels="y")) == parts(Shards(2).split(codes))


def test_torch_tensors_are_read():
    torch = pytest.importorskip("torch")
    codes = [0, 1, 1, 0]
    assert parts(Shards(2).split(torch.tensor(codes))) == parts(Shards(2).split(codes))


def test_a_dictionary_of_hugging_face_splits_is_refused_with_the_way_out():
    import datasets

    both = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"y": [0, 1]})})
    with pytest.raises(ConfigError, match=r"dictionary of data sets \(train\); split one, try data\['train'\]"):
        IID(2).split(both)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0.5, 1.5, 2.5], r"got fractions; for a continuous target try np.digitize"),
        ([0.0, 1e300, 1.0], r"got fractions"),
        ([0.0, np.nan, 1.0], r"1 missing or infinite, the first at row 1"),
        (["a", None, "b"], r"1 missing or infinite, the first at row 1"),
        (np.array(["2020", "2021", "NaT"], dtype="datetime64[Y]"), r"1 missing or infinite, the first at row 2"),
        (np.array([1, "a", 2], dtype=object), r"all numbers or all text, got a mixture"),
        (np.eye(3, dtype=int), r"got shape \(3, 3\); try .*argmax"),
        ([[1], [2, 3], [4]], r"labels must form one array"),
        ("y", r"column 'y' was asked for, but the data has no named columns"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, sentence):
    with pytest.raises(ConfigError, match=sentence):
        DirichletLabels(2, alpha=1).split(3, labels=labels)


def test_an_unknown_column_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match="column 'z' is not in the data, which has 'x', 'y'"):
        Shards(2).split({"x": np.arange(3), "y": np.arange(3)}, labels="z")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (-3, "data must be a whole number of at least 0, got -3"),
        (2.5, "data must hold samples along its first axis, got 2.5"),
        ([[1], [2, 3]], "data must form one array"),
        ({"x": np.arange(3), "y": np.arange(2)}, "columns must have one length, got 'x': 3, 'y': 2"),
    ],
)
def test_data_that_holds_no_samples_is_refused(data, sentence):
    with pytest.raises(ConfigError, match=sentence):
        IID(2).split(data)


def test_features_are_not_mistaken_for_labels():
    assert IID(2).split(np.linspace(0, 1, 8)).classes is None
    assert IID(2).split(np.zeros((8, 2), dtype=int)).classes is None


def test_natural_ids_name_and_order_the_clients():
    import pandas as pd

    frame = pd.DataFrame({"ward": [10, 9, 10, 9, 2]})
    partition = NaturalId("ward").split(frame)
    assert partition.clients == ("2", "9", "10")
    assert parts(partition) == [[4], [1, 3], [0, 2]]
    assert parts(NaturalId(frame["ward"]).split(5)) == parts(partition)
    assert parts(NaturalId(np.array([10, 9, 10, 9, 2])).split(frame)) == parts(partition)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ([1, 2], r"ids must be one per sample, shape \(3,\), got shape \(2,\)"),
        ([1.0, np.nan, 2.0], r"ids must be given for every sample, got 1 missing"),
        (["a", None, "b"], r"ids must be given for every sample, got 1 missing"),
        (np.array(["2020-01-01", "NaT", "2020-01-02"], dtype="datetime64[D]"), r"got 1 missing"),
        ("ward", r"column 'ward' was asked for"),
    ],
)
def test_natural_ids_that_do_not_fit_are_refused(ids, sentence):
    with pytest.raises(ConfigError, match=sentence):
        NaturalId(ids).split(3)
