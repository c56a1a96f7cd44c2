"""The known spellings of the client side: `fl.client.start_client`, `fl.client.NumPyClient`."""

from umbel.clients import Client, GradientClient, NumPyClient
from umbel.runtimes.node.start import start_client, start_numpy_client

__all__ = ["Client", "GradientClient", "NumPyClient", "start_client", "start_numpy_client"]
