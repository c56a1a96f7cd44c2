"""What a stale update counts for: less, and towards the client's model if the plan says so."""

from __future__ import annotations

from collections.abc import Mapping

from umbel.arrays import Arrays
from umbel.dtypes import narrow
from umbel.message import Ask, Group


def counted(groups: Mapping[str, Group], ask: Ask) -> Mapping[str, Group]:
    """The groups to fold: scale·(Δ + start - onto), with `onto` = start if the ask names none. Weights stay.

    Args:
        groups: the update's, opened.
        ask: says `scale` and `onto`.
    """
    if ask.scale == 1.0 and ask.onto is None:
        return groups
    return {name: Group(_counted(group.arrays, ask), group.weight) for name, group in groups.items()}


def _counted(delta: Arrays, ask: Ask) -> Arrays:
    found = delta.copy()
    for spec in delta.schema.specs:
        values = delta.float64(spec.name)
        if ask.onto is not None:
            values = values + (ask.task.arrays.float64(spec.name) - ask.onto.float64(spec.name))
        found.views[spec.name][...] = narrow(values * ask.scale, spec.dtype)
    return found.frozen()
