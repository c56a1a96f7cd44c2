"""Many simulations: one per point of seeds × hyper-parameters."""

from umbel.runtimes.sweep.result import PointResult, Sweep, SweepRun
from umbel.runtimes.sweep.space import Range
from umbel.runtimes.sweep.sweep import sweep

__all__ = ["PointResult", "Range", "Sweep", "SweepRun", "sweep"]
