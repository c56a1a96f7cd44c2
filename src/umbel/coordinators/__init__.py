"""Who is asked, and when a round closes: no I/O, no clock, no arrays."""

from umbel.coordinators.abstract import Coordinator, Decision, Ended, Phase
from umbel.coordinators.buffered import Asynchronous, Buffered, FedAsync, Streams
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.pacing import Pace, arrivals_per_s
from umbel.coordinators.population import Everyone, Named, Population, Some, draw
from umbel.coordinators.rounds import Rounds
from umbel.coordinators.selection import (
    Balanced,
    Experience,
    Oort,
    PowerOfChoice,
    Seen,
    Selector,
    Uniform,
    Weighted,
)
from umbel.coordinators.where import Where, read_where

__all__ = [
    "Asynchronous",
    "Balanced",
    "Buffered",
    "Coordinator",
    "Decision",
    "Ended",
    "Everyone",
    "Experience",
    "FedAsync",
    "Named",
    "Oort",
    "Pace",
    "Phase",
    "Population",
    "PowerOfChoice",
    "Rounds",
    "Seen",
    "Selector",
    "ServerConfig",
    "Some",
    "Streams",
    "Uniform",
    "Weighted",
    "Where",
    "arrivals_per_s",
    "draw",
    "read_where",
]
