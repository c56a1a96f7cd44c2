"""A client that returns the model as it came."""

from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


class Noop(NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


def client_fn(context):
    return Noop().to_client()


app = ClientApp(client_fn=client_fn)
