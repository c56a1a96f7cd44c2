"""How many updates become one."""

from umbel.reducers.abstract import Accumulator, Reduced, Reducer, Reduction
from umbel.reducers.krum import Krum, MultiKrum
from umbel.reducers.mean import Mean
from umbel.reducers.median import Median
from umbel.reducers.trimmed import TrimmedMean

__all__ = ["Accumulator", "Krum", "Mean", "Median", "MultiKrum", "Reduced", "Reducer", "Reduction", "TrimmedMean"]
