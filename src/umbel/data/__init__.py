"""Partitioners, readers of files you have, and small real data sets; importing it needs NumPy alone.

Names are loaded when first used, so that a program which only reads a CSV file does not pay for the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.data.by_id import NaturalId
    from umbel.data.by_label import DirichletLabels, PathologicalClasses, Shards
    from umbel.data.by_size import IID, DirichletSizes, ExponentialSizes
    from umbel.data.csv_table import load_csv
    from umbel.data.description import Description
    from umbel.data.fashion import FASHION_CLASSES, FashionMNIST, fashion_mnist
    from umbel.data.feature_skew import FeatureSkew
    from umbel.data.files import load, load_npz, load_parquet
    from umbel.data.heart import HospitalData, heart_disease
    from umbel.data.heterogeneity import Heterogeneity
    from umbel.data.idx import load_idx
    from umbel.data.partition import Partition
    from umbel.data.partitioner import Partitioner
    from umbel.data.samples import Classes, Samples
    from umbel.data.table import Table

_HOMES = {
    "by_id": ("NaturalId",),
    "by_label": ("DirichletLabels", "PathologicalClasses", "Shards"),
    "by_size": ("IID", "DirichletSizes", "ExponentialSizes"),
    "csv_table": ("load_csv",),
    "description": ("Description",),
    "fashion": ("FASHION_CLASSES", "FashionMNIST", "fashion_mnist"),
    "feature_skew": ("FeatureSkew",),
    "files": ("load", "load_npz", "load_parquet"),
    "heart": ("HospitalData", "heart_disease"),
    "heterogeneity": ("Heterogeneity",),
    "idx": ("load_idx",),
    "partition": ("Partition",),
    "partitioner": ("Partitioner",),
    "samples": ("Classes", "Samples"),
    "table": ("Table",),
}

__all__ = [
    "FASHION_CLASSES",
    "IID",
    "Classes",
    "Description",
    "DirichletLabels",
    "DirichletSizes",
    "ExponentialSizes",
    "FashionMNIST",
    "FeatureSkew",
    "Heterogeneity",
    "HospitalData",
    "NaturalId",
    "Partition",
    "Partitioner",
    "PathologicalClasses",
    "Samples",
    "Shards",
    "Table",
    "fashion_mnist",
    "heart_disease",
    "load",
    "load_csv",
    "load_idx",
    "load_npz",
    "load_parquet",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = getattr(import_module(f"umbel.data.{home}"), name)
            return globals()[name]
    raise AttributeError(f"module 'umbel.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
