"""Strategies: one paper per file."""

from umbel.strategies.averaging import Averaging
from umbel.strategies.fedavg import FedAvg
from umbel.strategies.fedavgm import FedAvgM
from umbel.strategies.feddyn import FedDyn
from umbel.strategies.fednova import FedNova
from umbel.strategies.fedopt import FedAdagrad, FedAdam, FedYogi
from umbel.strategies.fedprox import FedProx
from umbel.strategies.fedsgd import FedSGD
from umbel.strategies.qfedavg import QFedAvg
from umbel.strategies.scaffold import Scaffold

__all__ = [
    "Averaging",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedDyn",
    "FedNova",
    "FedProx",
    "FedSGD",
    "FedYogi",
    "QFedAvg",
    "Scaffold",
]
