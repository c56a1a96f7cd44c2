"""Partial sums become one, pairwise and on the nodes that hold them: the driver is sent a single one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from umbel.message import Ask
from umbel.runtimes.program import Program
from umbel.runtimes.ray.library import RayError, ray
from umbel.runtimes.ray.node import Node
from umbel.runtimes.ray.resident import opened
from umbel.runtimes.tally import Tally

WAIT_S = 1.0
LOST_S = 60.0
"""How long to wait for a single sum before it counts as lost."""


@final
@dataclass(frozen=True, eq=False)
class Part:
    """What a call left behind: `note` is its tally without the sums, which lie on `node`; None if there are none."""

    asks: list[tuple[Ask, float]]
    note: Tally
    sums: Any | None
    node: str


def gathered(program: Program, parts: list[Part], nodes: dict[str, Node]) -> tuple[Tally, list[Part]]:
    """One tally of all parts, and the parts whose sums were lost with a node."""
    summed = sorted((part for part in parts if part.sums is not None), key=lambda part: part.node)
    actors = {name: node.actor for name, node in nodes.items() if node.starting is None}
    total, lost = _summed(program, summed, actors) if summed else (Tally(), list[Part]())
    for part in parts:
        if part not in lost:
            total.absorb(part.note)
    return total, lost


def _summed(program: Program, parts: list[Part], actors: dict[str, Any]) -> tuple[Tally, list[Part]]:
    if actors:
        try:
            return opened(program, _fetched(_tree(parts, actors), timeout_s=None)), []
        except RayError:
            pass  # a node was lost meanwhile
    return _one_by_one(program, parts)


def _tree(parts: list[Part], actors: dict[str, Any]) -> Any:
    """What stands for the sum of all. Parts of one node are neighbours, so most merges stay at home."""
    level = [(part.sums, part.node) for part in parts]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = level[len(level) // 2 * 2 :]
        level = [(_merge(one, other, home, actors), home) for (one, home), (other, _) in pairs] + odd
    return level[0][0]


def _merge(one: Any, other: Any, home: str, actors: dict[str, Any]) -> Any:
    actor = actors.get(home) or next(iter(actors.values()))
    return actor.merge.remote(one, other)


def _fetched(ref: Any, timeout_s: float | None) -> Any:
    """What `ref` stands for. The wait is cut into pieces, so that Ctrl-C is heard."""
    waited = 0.0
    while not ray.wait([ref], timeout=WAIT_S)[0]:
        waited += WAIT_S
        if timeout_s is not None and waited >= timeout_s:
            raise TimeoutError
    return ray.get(ref)


def _one_by_one(program: Program, parts: list[Part]) -> tuple[Tally, list[Part]]:
    """The long way, for when a node is lost while sums are merged: the driver fetches each that is still there."""
    total, lost = Tally(), list[Part]()
    for part in parts:
        try:
            total.absorb(opened(program, _fetched(part.sums, LOST_S)))
        except (RayError, TimeoutError):
            lost.append(part)
    return total, lost
