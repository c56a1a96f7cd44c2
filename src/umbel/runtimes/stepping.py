"""`stepped`: a strategy's step on a model that is too large to have twice, piece by piece, to the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from umbel.arrays import Arrays
from umbel.reducers import Accumulator, Reduction
from umbel.runtimes.room import Room
from umbel.schema import Schema, Slice
from umbel.strategy import State, Strategy

PIECE = 2**20
"""Elements of a piece: a multiple of the blocks that sums are kept in."""


def stepped(
    strategy: Strategy,
    state: State,
    accumulator: Accumulator,
    schema: Mapping[str, Schema],
    population: int,
    room: Room | None,
    *,
    piece: int = PIECE,
) -> State:
    """`strategy.step` on what a round's updates add up to.

    A strategy that looks at each element for itself is given one piece after the other; the new model is written where
    `room` says, and neither the sum nor the change is ever there as a whole.

    Args:
        schema: that of each group in the accumulator.
        room: where the new arrays lie; None steps in one go, in this process's memory.
        piece: how many elements at a time.
    """
    accumulator.began_from(state.params)
    leading = max(schema.values(), key=lambda expected: expected.size)
    if room is None or not strategy.elementwise or not _fits(state, leading):
        return strategy.step(state, Reduction(accumulator.result(), population))
    params = room.copy(state.params, leaving=leading)
    slots = {name: room.copy(slot, leaving=leading) for name, slot in state.slots.items()}
    scalars = state.scalars
    for part in leading.slices(piece):
        found = strategy.step(_cut(state, part), Reduction(accumulator.cut(part), population))
        params.paste(part, found.params)
        for name, slot in found.slots.items():
            slots[name].paste(part, slot)
        scalars = found.scalars
    return State(params.frozen(), {name: slot.frozen() for name, slot in slots.items()}, scalars)


def _fits(state: State, leading: Schema) -> bool:
    """Whether pieces of the leading group are pieces of everything that a step changes."""
    changed = [name for slot in state.slots.values() for name in slot]
    return all(name in leading.by_name for name in changed)


def _cut(state: State, piece: Sequence[Slice]) -> State:
    slots = {name: slot.cut(piece) for name, slot in state.slots.items()}
    return State(state.params.cut(piece), slots, state.scalars)


def settled(state: State, room: Room | None) -> State:
    """The same state, with its arrays where `room` says."""
    if room is None:
        return state
    slots: dict[str, Arrays] = {name: room.copy(slot).frozen() for name, slot in state.slots.items()}
    return State(room.copy(state.params).frozen(), slots, state.scalars)
