"""Partitioners, readers of files you have, and small real data sets; importing it needs NumPy alone."""

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
