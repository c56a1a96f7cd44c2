"""A client program as it is written for Flower: client i adds i + 1 and has i + 1 examples."""

import sys

import flwr as fl
import numpy as np


class Adds(fl.client.NumPyClient):
    def __init__(self, index):
        self.number = index + 1

    def get_parameters(self, config):
        return [np.zeros(3, np.float32), np.zeros((2, 2))]

    def fit(self, parameters, config):
        return [p + self.number for p in parameters], self.number, {"number": float(self.number)}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), self.number, {"accuracy": 0.25 * self.number}


class WithoutEvaluate(fl.client.NumPyClient):
    fit = Adds.fit

    def __init__(self, index):
        self.number = index + 1


class Raises(Adds):
    def fit(self, parameters, config):
        raise ValueError("no data")


address, index, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if how == "numpy_client":
    fl.client.start_numpy_client(server_address=address, client=Adds(index), insecure=True)
else:
    kind = {"client": Adds, "without_evaluate": WithoutEvaluate, "raises": Raises}[how]
    fl.client.start_client(server_address=address, client=kind(index).to_client(), insecure=True)
