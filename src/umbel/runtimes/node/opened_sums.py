"""Whose sums a client has helped to open: of two sums over the same model the difference must not be one client's."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias, final

About: TypeAlias = "tuple[str, str, bytes]"
"""Run, kind of ask, and the digest of what the clients were sent: the same again gives the same vectors."""
Members: TypeAlias = "frozenset[str]"
"""The names of the clients in a sum, for which their identities vouch."""

KEPT = 64
"""The sums of so many models are remembered; those of earlier ones are a server's that goes back far."""


@final
class OpenedSums:
    """A server that is killed opens a round's sum twice, and some of its clients may be gone the second time.

    Args:
        least: as many clients at least have to be in the difference of two sums, if any.
    """

    def __init__(self, least: int) -> None:
        self._least = max(2, least)
        self._sums: OrderedDict[About, list[Members]] = OrderedDict()

    def why_not(self, about: About, members: Members) -> str | None:
        """Why no sum of these may be opened."""
        for other in self._sums.get(about, ()):
            differ = len(other ^ members)
            if 0 < differ < self._least:
                return (
                    f"a sum over the same model was opened, and this one differs from it in {differ} of its clients, "
                    "whose updates the difference would show; the same clients can open it again, or such as differ in "
                    f"{self._least} and more"
                )
        return None

    def add(self, about: About, members: Members) -> None:
        """Remember a sum, before it can be opened."""
        known = self._sums.setdefault(about, [])
        if members not in known:
            known.append(members)
        self._sums.move_to_end(about)
        while len(self._sums) > KEPT:
            self._sums.popitem(last=False)
