import sys

import numpy as np

import umbel as fl

mine = np.random.default_rng(int(sys.argv[1])).normal(loc=int(sys.argv[1]), size=1000)  # these numbers stay here


class Mean(fl.client.NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(1)]

    def fit(self, parameters, config):
        return [parameters[0] + 0.5 * (mine.mean() - parameters[0])], len(mine), {}

    def evaluate(self, parameters, config):
        return float(np.mean((mine - parameters[0]) ** 2)), len(mine), {}


fl.client.start_numpy_client(server_address="127.0.0.1:8080", client=Mean())
