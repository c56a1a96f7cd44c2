"""The UCI heart disease patients of four hospitals: small, real, and different from place to place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from umbel.data.csv_table import load_csv
from umbel.data.table import Table

FILE = Path(__file__).with_name("heart_disease_uci.csv")
HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
NUMBERS = ("age", "trestbps", "chol", "thalch", "oldpeak", "ca")
ZERO_IS_MISSING = ("trestbps", "chol")
YES_NO = {"sex": "Male", "fbs": "TRUE", "exang": "TRUE"}
CATEGORIES = {
    "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "restecg": ("normal", "st-t abnormality", "lv hypertrophy"),
    "slope": ("upsloping", "flat", "downsloping"),
    "thal": ("normal", "fixed defect", "reversable defect"),
}


@final
@dataclass(frozen=True, eq=False)
class HospitalData:
    """The patients of one hospital.

    Args:
        features: float64 of shape (patients, 22), NaN where not measured.
        labels: int64 of shape (patients,), 1 for heart disease.
        feature_names: the 22 names.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    feature_names: tuple[str, ...]


def heart_disease() -> dict[str, HospitalData]:
    """The UCI heart disease data by hospital: 920 patients, 22 features, heart disease yes or no.

    Features: age (years), trestbps (blood pressure at rest, mmHg), chol (cholesterol, mg/dl), thalch (highest heart
    rate), oldpeak (ST depression; negative values are in the source), ca (vessels coloured, 0 to 3); sex=Male, fbs=TRUE
    (fasting blood sugar above 120 mg/dl) and exang=TRUE (angina under exercise) as 0 or 1; cp, restecg, slope and thal
    one-hot, a group being all NaN where the category is missing. The label is ``num > 0`` (a vessel narrowed by
    more than half).

    What was not measured differs by hospital and is left as NaN, so that imputing can be part of the federated work:
    chol for all of Switzerland (0 in the source, impossible), ca for 291 of 294 patients in Hungary, 118 of 123 in
    Switzerland and 198 of 200 in VA Long Beach, thal for 266 in Hungary. Positive share: 46, 36, 93 and 74 %. Nothing
    is scaled.

    Returns:
        Hospital name → `HospitalData`: Cleveland (303 patients), Hungary (294), Switzerland (123), VA Long Beach (200).

    Example:
        >>> hospitals = heart_disease()
        >>> {name: data.features.shape for name, data in hospitals.items()}
        {'Cleveland': (303, 22), 'Hungary': (294, 22), 'Switzerland': (123, 22), 'VA Long Beach': (200, 22)}
        >>> hospitals["Hungary"].labels[:3].tolist()
        [0, 0, 0]

    References:
        A. Janosi, W. Steinbrunn, M. Pfisterer, R. Detrano, "Heart Disease", UCI Machine Learning Repository, 1989,
        https://doi.org/10.24432/C52P4X (CC BY 4.0; HEART_DISEASE_LICENSE.txt says what was changed). J. Ogier du
        Terrail et al., "FLamby: Datasets and Benchmarks for Cross-Silo Federated Learning in Realistic Healthcare
        Settings", 2022, https://arxiv.org/abs/2210.04620 (the same split by hospital).
    """
    table = load_csv(FILE, target="num", text=(*YES_NO, *CATEGORIES))
    named = dict(_features(table))
    features = np.stack(list(named.values()), axis=1)
    labels = (table["num"].astype(np.int64) > 0).astype(np.int64)
    site = table["dataset"]
    return {name: HospitalData(features[site == name], labels[site == name], tuple(named)) for name in HOSPITALS}


def _features(table: Table) -> list[tuple[str, NDArray[np.float64]]]:
    columns: list[tuple[str, NDArray[np.float64]]] = []
    for name in NUMBERS:
        values = table[name].astype(np.float64)
        columns.append((name, np.where(values == 0, math.nan, values) if name in ZERO_IS_MISSING else values))
    for name, yes in YES_NO.items():
        columns.append((f"{name}={yes}", _indicator(table, name, yes)))
    for name, values in CATEGORIES.items():
        columns.extend((f"{name}={value}", _indicator(table, name, value)) for value in values)
    return columns


def _indicator(table: Table, name: str, value: str) -> NDArray[np.float64]:
    """1 where the column has the value, 0 where another, NaN where none."""
    column = table[name]
    return np.where(column == "", math.nan, (column == value).astype(np.float64))
