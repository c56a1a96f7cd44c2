"""A user's model as a client."""

from umbel.clients.adapt import as_client
from umbel.clients.client import Client, Delta, Gradients
from umbel.clients.gradient import GradientClient
from umbel.clients.numpy_client import NumPyClient

__all__ = ["Client", "Delta", "GradientClient", "Gradients", "NumPyClient", "as_client"]
