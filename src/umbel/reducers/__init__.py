"""How many updates become one."""

from umbel.reducers.abstract import Accumulator, Reduced, Reducer, Reduction
from umbel.reducers.bulyan import Bulyan
from umbel.reducers.clipped import CenteredClipping, ClippedMean
from umbel.reducers.fltrust import FLTrust
from umbel.reducers.foolsgold import FoolsGold
from umbel.reducers.geometric import GeometricMedian
from umbel.reducers.krum import Krum, MultiKrum
from umbel.reducers.mean import Mean
from umbel.reducers.median import Median
from umbel.reducers.mixing import Bucketing, NearestNeighbourMixing
from umbel.reducers.robust import Robust
from umbel.reducers.trimmed import TrimmedMean

__all__ = [
    "Accumulator",
    "Bucketing",
    "Bulyan",
    "CenteredClipping",
    "ClippedMean",
    "FLTrust",
    "FoolsGold",
    "GeometricMedian",
    "Krum",
    "Mean",
    "Median",
    "MultiKrum",
    "NearestNeighbourMixing",
    "Reduced",
    "Reducer",
    "Reduction",
    "Robust",
    "TrimmedMean",
]
