"""The known spellings of the server side: `fl.server.ServerConfig`, `fl.server.strategy.FedAvg`."""

from umbel.coordinators import ServerConfig
from umbel.server import strategy

__all__ = ["ServerConfig", "strategy"]
