"""Who is asked, and when a round closes: no I/O, no clock, no arrays."""

from umbel.coordinators.abstract import Coordinator, Decision, Ended, Phase
from umbel.coordinators.buffered import Asynchronous, Buffered, FedAsync, Streams, check_config
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.pacing import Pace, arrivals_per_s
from umbel.coordinators.population import Everyone, Named, Population, Some, draw
from umbel.coordinators.rounds import Rounds
from umbel.coordinators.where import Where, read_where

__all__ = [
    "Asynchronous",
    "Buffered",
    "Coordinator",
    "Decision",
    "Ended",
    "Everyone",
    "FedAsync",
    "Named",
    "Pace",
    "Phase",
    "Population",
    "Rounds",
    "ServerConfig",
    "Some",
    "Streams",
    "Where",
    "arrivals_per_s",
    "check_config",
    "draw",
    "read_where",
]
