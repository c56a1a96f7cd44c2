"""Who is asked, and when a round closes: no I/O, no clock, no arrays."""

from umbel.coordinators.config import ServerConfig
from umbel.coordinators.pacing import Pace, arrivals_per_s
from umbel.coordinators.population import Everyone, Named, Population, Some
from umbel.coordinators.rounds import Decision, Ended, Phase, Rounds
from umbel.coordinators.where import Where, read_where

__all__ = [
    "Decision",
    "Ended",
    "Everyone",
    "Named",
    "Pace",
    "Phase",
    "Population",
    "Rounds",
    "ServerConfig",
    "Some",
    "Where",
    "arrivals_per_s",
    "read_where",
]
