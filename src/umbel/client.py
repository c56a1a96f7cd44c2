"""The known spellings of the client side: `fl.client.NumPyClient`, `fl.client.Client`."""

from umbel.clients import Client, GradientClient, NumPyClient

__all__ = ["Client", "GradientClient", "NumPyClient"]
