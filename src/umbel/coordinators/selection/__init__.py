"""How a cohort is drawn from those that are there: pure values, which may learn from receipts."""

from umbel.coordinators.selection.balanced import Balanced
from umbel.coordinators.selection.experience import Experience, Seen
from umbel.coordinators.selection.oort import Oort
from umbel.coordinators.selection.power_of_choice import PowerOfChoice
from umbel.coordinators.selection.selector import Selector
from umbel.coordinators.selection.uniform import Uniform
from umbel.coordinators.selection.weighted import Weighted

__all__ = ["Balanced", "Experience", "Oort", "PowerOfChoice", "Seen", "Selector", "Uniform", "Weighted"]
