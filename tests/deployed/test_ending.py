"""How a server and its nodes come to an end."""

import time

import numpy as np

import umbel as fl


class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [p + 1 for p in parameters], 1, {}


def test_a_server_that_has_told_all_its_nodes_waits_for_nobody(federation):
    began = time.monotonic()
    federation.run(["a", "b"], lambda ctx: Adds(), initial_parameters=[np.zeros(1)], config=fl.ServerConfig(seed=1))
    assert time.monotonic() - began < 4
