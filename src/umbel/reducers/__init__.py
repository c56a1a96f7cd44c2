"""How many updates become one."""

from umbel.reducers.abstract import Accumulator, Reduced, Reducer, Reduction
from umbel.reducers.mean import Mean
from umbel.reducers.median import Median

__all__ = ["Accumulator", "Mean", "Median", "Reduced", "Reducer", "Reduction"]
