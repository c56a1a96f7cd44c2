"""Who is asked, and when a round closes: no I/O, no clock, no arrays."""

from umbel.coordinators.abstract import Coordinator, Decision, Ended, Phase
from umbel.coordinators.buffered import Buffered, FedAsync, Streams
from umbel.coordinators.config import ServerConfig
from umbel.coordinators.leading import Overlap, check_for, leader
from umbel.coordinators.overlapping import Overlapping
from umbel.coordinators.pacing import Pace, arrivals_per_s
from umbel.coordinators.population import AllBut, Everyone, Matching, Named, Population, Registered, Some, draw
from umbel.coordinators.rounds import Rounds
from umbel.coordinators.secure import Secure
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
from umbel.coordinators.tiered import Tiered, Tiers
from umbel.coordinators.where import Where, read_where

__all__ = [
    "AllBut",
    "Balanced",
    "Buffered",
    "Coordinator",
    "Decision",
    "Ended",
    "Everyone",
    "Experience",
    "FedAsync",
    "Matching",
    "Named",
    "Oort",
    "Overlap",
    "Overlapping",
    "Pace",
    "Phase",
    "Population",
    "PowerOfChoice",
    "Registered",
    "Rounds",
    "Secure",
    "Seen",
    "Selector",
    "ServerConfig",
    "Some",
    "Streams",
    "Tiered",
    "Tiers",
    "Uniform",
    "Weighted",
    "Where",
    "arrivals_per_s",
    "check_for",
    "draw",
    "leader",
    "read_where",
]
