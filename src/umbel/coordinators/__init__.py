"""Who is asked, and when a round closes: no I/O, no clock, no arrays."""

from umbel.coordinators.config import ServerConfig
from umbel.coordinators.pacing import Pace, arrivals_per_s
from umbel.coordinators.population import Everyone, Named, Population
from umbel.coordinators.rounds import Decision, Ended, Phase, Rounds

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
    "arrivals_per_s",
]
