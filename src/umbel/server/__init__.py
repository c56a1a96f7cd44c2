"""The known spellings of the server side: `fl.server.start_server`, `ServerConfig`, `strategy.FedAvg`."""

from umbel.coordinators import ServerConfig
from umbel.runtimes.server.start import start_server
from umbel.server import strategy

__all__ = ["ServerConfig", "start_server", "strategy"]
