from itertools import pairwise

import numpy as np
import pytest

from umbel.data import IID, Classes, NaturalId, Partition, Shards
from umbel.errors import ConfigError


def part(*rows):
    return np.array(rows, dtype=np.int64)


def test_it_is_a_sequence_of_sorted_sample_numbers():
    partition = Partition((part(3, 0), part(2, 1)), ("left", "right"))
    assert [p.tolist() for p in partition] == [[0, 3], [1, 2]]
    assert partition[-1].tolist() == [1, 2]
    assert [p.tolist() for p in partition[:1]] == [[0, 3]]
    assert (len(partition), partition.size, partition.sizes.tolist()) == (2, 4, [2, 2])


@pytest.mark.parametrize(
    "parts", [(part(0, 1), part(1, 2)), (part(0, 1), part(3)), (part(-1, 0), part(1)), (part(0, 0), part(1))]
)
def test_a_sample_in_two_parts_or_in_none_is_refused(parts):
    with pytest.raises(ConfigError, match="parts must hold every sample exactly once"):
        Partition(parts, ("0", "1"))


@pytest.mark.parametrize("wrong", [np.array([True, False]), np.array([0.0, 1.0]), np.zeros((1, 2), dtype=int)])
def test_a_part_that_holds_no_sample_numbers_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"a part must be a 1-D array of sample numbers.*flatnonzero"):
        Partition((wrong,), ("0",))


@pytest.mark.parametrize("clients", [("0",), ("0", "0"), ("0", "1", "2")])
def test_names_must_be_one_per_client_and_distinct(clients):
    with pytest.raises(ConfigError, match="clients must be 2 distinct names"):
        Partition((part(0), part(1)), clients)


def test_classes_of_other_data_are_refused():
    with pytest.raises(ConfigError, match="classes must tell one class per sample, got 3 for 2 samples"):
        Partition((part(0), part(1)), ("0", "1"), Classes(part(0, 0, 1), ("a", "b")))


def test_a_partitioner_that_drops_samples_is_named():
    from umbel.data import Partitioner

    class Forgetful(Partitioner):
        def assign(self, samples):
            return {"0": np.arange(samples.size - 1)}

    with pytest.raises(ConfigError, match=r"Forgetful.assign must give all 5 samples, got 4"):
        Forgetful().split(5)


def test_take_gives_the_same_rows_of_every_kind_of_data():
    import datasets
    import pandas as pd

    x = np.arange(12).reshape(6, 2)
    frame = pd.DataFrame(x, columns=["a", "b"], index=list("uvwxyz"))
    partition = IID(2, seed=4).split(6)
    rows = partition[1].tolist()
    assert partition.take(1, x).tolist() == x[rows].tolist()
    assert partition.take(1, frame).to_numpy().tolist() == x[rows].tolist()
    assert partition.take(1, frame["a"]).tolist() == x[rows, 0].tolist()
    assert partition.take(1, datasets.Dataset.from_pandas(frame))["b"][:] == x[rows, 1].tolist()
    assert partition.take(1, x.tolist()).tolist() == x[rows].tolist()
    assert partition.take(1, {"a": x[:, 0]})["a"].tolist() == x[rows, 0].tolist()


def test_tensors_are_indexed_without_warning():
    torch = pytest.importorskip("torch")
    x = torch.arange(12).reshape(6, 2)
    partition = IID(2, seed=4).split(6)
    assert partition.take(1, x).tolist() == x[partition[1]].tolist() == x[partition[1].tolist()].tolist()


def test_the_clients_taken_together_are_the_whole():
    x, y = np.arange(10) * 2.5, np.arange(10) % 3
    partition = IID(3).split(y)
    taken = [partition.take(i, x, y) for i in range(3)]
    order = np.argsort(np.concatenate(list(partition)))
    assert np.concatenate([t[0] for t in taken])[order].tolist() == x.tolist()
    assert np.concatenate([t[1] for t in taken])[order].tolist() == y.tolist()


def test_take_knows_clients_by_name():
    partition = NaturalId(["north", "south", "north"]).split(3)
    assert partition.take("north", np.array([5, 6, 7])).tolist() == [5, 7]


@pytest.mark.parametrize("client", [2, -1, "west", 0.0, None])
def test_an_unknown_client_is_refused(client):
    with pytest.raises(ConfigError, match=r"client must be a number from 0 to 1 or a name in partition.clients, got"):
        IID(2).split(4).take(client, np.arange(4))


@pytest.mark.parametrize("data", [np.arange(3), [1, 2, 3, 4, 5], np.float64(1.0), {"a": np.arange(3)}])
def test_data_of_another_length_is_not_taken_from(data):
    with pytest.raises(ConfigError, match="data must have the 4 rows that were split, got"):
        IID(2).split(4).take(0, data)


def test_the_description_adds_up():
    y = np.arange(90) % 7
    description = IID(4).split(y).describe()
    assert sum(row["rows"] for row in description.rows) == description.total["rows"] == 90
    assert sum(row["share"] for row in description.rows) == pytest.approx(1)
    assert description.total["labels"] == 7


def test_the_printed_table_is_aligned_and_cut_in_the_middle():
    lines = str(IID(300).split(np.arange(900) % 2).describe()).splitlines()
    assert lines[21] == "… 260 more clients"
    assert len(lines) == 1 + 20 + 1 + 20 + 1
    assert len({len(line) for line in lines if not line.startswith("…")}) == 1


def test_a_partition_without_labels_is_described_by_size_alone():
    text = str(IID(2).split(5).describe())
    assert [line.split() for line in text.splitlines()] == [
        ["client", "rows", "share"], ["0", "3", "60.0%"], ["1", "2", "40.0%"], ["total", "5", "100.0%"],
    ]  # fmt: skip


def test_an_empty_client_is_described_without_a_majority():
    row = Partition((part(0), part()), ("0", "1"), Classes(part(0), ("a",))).describe().rows[1]
    assert row == {
        "client": "1", "rows": 0, "share": 0.0, "labels": 0, "majority label": "-", "majority share": 0.0,
    }  # fmt: skip


def test_plot_draws_every_client_and_label_once(tmp_path):
    partition = Shards(5).split(np.array(list("abc") * 20))
    figure = partition.plot(tmp_path / "split.png")
    bars = figure.axes[0].patches
    assert len(bars) == 5 * 3
    for client in range(5):
        ends = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars[client::5])
        assert all(end == start for (_, end), (start, _) in pairwise(ends))  # stacked, without gap or overlap
        assert (ends[0][0], ends[-1][1]) == (0, 12)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["a", "b", "c"]
    assert (tmp_path / "split.png").read_bytes().startswith(b"\x89PNG")


def test_plot_sums_up_rare_labels_and_works_without_any():
    many = IID(3).split(np.arange(200) % 50).plot()
    assert [text.get_text() for text in many.axes[0].get_legend().get_texts()][-1] == "31 others"
    assert sum(bar.get_width() for bar in many.axes[0].patches) == 200
    assert len(IID(3).split(9).plot().axes[0].patches) == 3
    assert len(IID(100).split(300).plot().axes[0].get_yticks()) < 100


def test_plot_to_an_impossible_path_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"path must end in a picture format, got 'a.wrong'"):
        IID(2).split(4).plot(tmp_path / "a.wrong")
    with pytest.raises(ConfigError, match="path cannot be written"):
        IID(2).split(4).plot(tmp_path / "no" / "a.png")
