"""A client of umbel's that returns the model as it came, in a process of its own."""

import sys

import umbel as fl


class Noop(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


if __name__ == "__main__":
    fl.client.start_numpy_client(server_address=sys.argv[1], client=Noop(), progress=False)
