import csv
from importlib import resources

import numpy as np
import pytest

from umbel.data import heart_disease

# Counts of the UCI page and of its four "processed" files.
SIZES = {"Cleveland": 303, "Hungary": 294, "Switzerland": 123, "VA Long Beach": 200}
SICK = {"Cleveland": 139, "Hungary": 106, "Switzerland": 115, "VA Long Beach": 149}


@pytest.fixture(scope="module")
def hospitals():
    return heart_disease()


def column(data, name):
    return data.features[:, data.feature_names.index(name)]


def group(data, name):
    return data.features[:, [i for i, f in enumerate(data.feature_names) if f.startswith(f"{name}=")]]


def test_sizes_and_sick_patients_are_those_of_the_source(hospitals):
    assert {name: len(data.labels) for name, data in hospitals.items()} == SIZES
    assert {name: int(data.labels.sum()) for name, data in hospitals.items()} == SICK


def test_all_hospitals_have_the_same_features_and_types(hospitals):
    assert len({data.feature_names for data in hospitals.values()}) == 1
    for name, data in hospitals.items():
        assert data.features.shape == (SIZES[name], len(data.feature_names)) == (SIZES[name], 22)
        assert (data.features.dtype, data.labels.dtype) == (np.float64, np.int64)
        assert set(data.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("name", ["cp", "restecg", "slope", "thal"])
def test_a_one_hot_group_has_one_one_or_is_missing_as_a_whole(hospitals, name):
    for data in hospitals.values():
        values = group(data, name)
        missing = np.isnan(values)
        assert (missing.all(axis=1) == missing.any(axis=1)).all()
        assert (values[~missing.any(axis=1)].sum(axis=1) == 1).all()


def test_zero_cholesterol_and_blood_pressure_are_missing(hospitals):
    # zeros and blanks of the source: 123 + 0 in Switzerland, 49 + 7 in Long Beach, 23 blanks in Hungary
    assert {name: int(np.isnan(column(d, "chol")).sum()) for name, d in hospitals.items()} == {
        "Cleveland": 0, "Hungary": 23, "Switzerland": 123, "VA Long Beach": 56,
    }  # fmt: skip
    assert {name: int(np.isnan(column(d, "trestbps")).sum()) for name, d in hospitals.items()} == {
        "Cleveland": 0, "Hungary": 1, "Switzerland": 2, "VA Long Beach": 57,
    }  # fmt: skip


def test_other_zeros_are_kept(hospitals):
    assert int((column(hospitals["Cleveland"], "oldpeak") == 0).sum()) == 99
    assert int((column(hospitals["Cleveland"], "ca") == 0).sum()) == 176


def test_values_lie_in_medical_ranges(hospitals):
    ranges = {
        "age": (28, 77),
        "trestbps": (80, 200),
        "chol": (85, 603),
        "thalch": (60, 202),
        "oldpeak": (-2.6, 6.2),
        "ca": (0, 3),
    }
    for name, expected in ranges.items():
        values = np.concatenate([column(data, name) for data in hospitals.values()])
        assert (np.nanmin(values), np.nanmax(values)) == expected


def test_the_first_patients_read_as_in_the_source(hospitals):
    # processed.cleveland.data, line 1: 63,1,1,145,233,1,2,150,0,2.3,3,0,6,0
    first = dict(zip(hospitals["Cleveland"].feature_names, hospitals["Cleveland"].features[0].tolist(), strict=True))
    assert {name for name, value in first.items() if value == 1 and "=" in name} == {
        "sex=Male", "cp=typical angina", "fbs=TRUE", "restecg=lv hypertrophy", "slope=downsloping", "thal=fixed defect",
    }  # fmt: skip
    assert [first[n] for n in ("age", "trestbps", "chol", "thalch", "oldpeak", "ca")] == [63, 145, 233, 150, 2.3, 0]
    # processed.hungarian.data, line 1: 28,1,2,130,132,0,2,185,0,0,?,?,?,0
    assert hospitals["Hungary"].features[0, 0] == 28


def test_the_licence_and_the_changes_lie_beside_the_data():
    notice = resources.files("umbel.data").joinpath("HEART_DISEASE_LICENSE.txt").read_text()
    for fact in (
        "10.24432/C52P4X",
        "CC BY 4.0",
        "Janosi",
        "Steinbrunn",
        "Pfisterer",
        "Detrano",
        "1989",
        "What was changed",
    ):
        assert fact in notice


def test_no_patient_is_lost_between_file_and_hospitals(hospitals):
    with resources.files("umbel.data").joinpath("heart_disease_uci.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for name, data in hospitals.items():
        assert [float(row["age"]) for row in rows if row["dataset"] == name] == column(data, "age").tolist()
