"""A model of time: how fast clients are, when they are there, what they cost. Pure but for the reader of traces."""

from umbel.runtimes.system.availability import Always, Availability, Diurnal, OnOff
from umbel.runtimes.system.distributions import Distribution, Empirical, HalfNormal, LogNormal, Pareto, Zipf
from umbel.runtimes.system.model import SystemModel, Turn
from umbel.runtimes.system.present import Present
from umbel.runtimes.system.timeline import Timeline
from umbel.runtimes.system.trace import Trace

__all__ = [
    "Always",
    "Availability",
    "Distribution",
    "Diurnal",
    "Empirical",
    "HalfNormal",
    "LogNormal",
    "OnOff",
    "Pareto",
    "Present",
    "SystemModel",
    "Timeline",
    "Trace",
    "Turn",
    "Zipf",
]
