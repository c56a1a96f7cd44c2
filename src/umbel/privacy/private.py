"""`Private`: a strategy whose every step takes a noisy sum of clipped updates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, Vector
from umbel.local import assemble
from umbel.local_client import LocalClient
from umbel.message import ClientState, Context, Group, Task, Update, require
from umbel.privacy import lattice
from umbel.privacy.clip import EXAMPLE_BITS, GRID_BITS, WEIGHT_BITS, capped, clipped, grid_of
from umbel.privacy.correlation import Correlated
from umbel.privacy.examples import opened, summed
from umbel.privacy.noise import Draw, on_grid
from umbel.privacy.promised import Promised, check_dtypes, check_model
from umbel.reducers import Reduced, Reduction
from umbel.schema import Schema
from umbel.strategy import State

CLIP = "privacy.clip"
BIT = "privacy.unclipped"
EXACT_BITS = {"F32": 23, "F64": 52}
"""So far above a grid a type of array holds sums exactly, whatever is clipped to."""


@final
@dataclass(frozen=True, kw_only=True)
class Private(Promised):
    """x ← step(x, (Σ wᵢ·clip(Δᵢ) + noise) / fixed weight), with `inner`'s step.

    Noise of clients is in the sum when it is opened, and not added again.

    Args:
        Others: see `Promised`; what is clipped are the updates of `inner`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.plan.noise != "dp-sgd", 'noise="dp-sgd" is in the steps of clients, which DpSgdTraining takes')
        if self.mechanism.correlation is not None and not isinstance(self.draw, Correlated):
            object.__setattr__(self, "draw", Correlated(self.mechanism.correlation, self.draw))

    @property
    def source(self) -> Draw:
        """Where numbers come from that are independent of each other."""
        return self.draw.source if isinstance(self.draw, Correlated) else self.draw

    @property
    def weight_cap(self) -> float:
        return 1.0 if self.plan.weight_cap is None else self.plan.weight_cap

    @property
    def denominator(self) -> float:
        """What the sum is divided by: public, and the same whoever answers."""
        if self.plan.expected_examples is not None:
            return float(self.plan.expected_examples)
        expected = self.plan.expected_weight if self.plan.expected_weight is not None else self.weight_cap
        return self.mechanism.cohort * expected

    def init(self, params: Arrays) -> State:
        state = self.inner.init(params)
        check_model(self, state)
        return replace(state, scalars={**state.scalars, CLIP: self.plan.bound})

    def task(self, state: State, round: int) -> Task:
        task = self.inner.task(state, round)
        return replace(task, extra={**task.extra, CLIP: Arrays.of({"bound": np.array([state.scalars[CLIP]])})})

    def schema(self, task: Task, own: Mapping[str, Any]) -> Mapping[str, Schema]:
        expected = self.inner.schema(_without_clip(task), own)
        return expected if self.plan.adaptive is None else {**expected, BIT: _bit(True).schema}

    def local(self, ask: Any, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        check_dtypes(ask.task.arrays.schema.delta)
        if self.plan.unit == "example":
            summed = self._summed_by_example(ask, client, ctx)
            return replace(summed, groups=self._noised(summed.groups)), ctx.memory
        update, memory = self.inner.local(replace(ask, task=_without_clip(ask.task)), client, ctx)
        groups = self._noised(self._protected(update.groups, ask.task, None))
        # What else a client tells of itself, such as its loss or its steps, is not in the budget and stays where it is.
        return Update(groups, 1.0, 1), memory

    def _noised(self, groups: Mapping[str, Group]) -> Mapping[str, Group]:
        """What leaves the client: with local noise a release already. Rounding it to the model's type tells no more."""
        if self.plan.noise != "local":
            return groups
        return {
            name: Group(self._noisy(Vector.of(group.arrays), self.plan.bound).arrays(), 1.0)
            for name, group in groups.items()
        }

    def _summed_by_example(self, ask: Any, client: LocalClient, ctx: Context) -> Update:
        """Σ clip(-∇ℓᵢ(x)) over the client's examples, each coordinate in a box that more examples do not widen.

        More examples than expected are cut at the box, which brings two sums no further apart.
        """
        start = assemble(_without_clip(ask.task), opened(client), ctx)
        schema, grid = start.schema.delta, grid_of(self.plan.bound, self.bits)
        total = summed(opened(client).example_gradients(start, ctx), schema, self, self.bits)
        exact = min(2 ** (EXACT_BITS[spec.dtype] - self.bits) for spec in schema.specs)
        box = min(self.plan.expected_examples or 1, exact) * self.steps * grid
        np.clip(total.values, -box, box, out=total.values)
        return Update({"delta": Group(total.arrays(), 1.0)}, 1.0, 1)

    def open(self, update: Update, task: Task, own: Mapping[str, Any]) -> Mapping[str, Group]:
        """The bound is the server's promise, so it is the server that sees to it, whatever the client did.

        Of single examples it sees nothing: that those are clipped is their owner's word.
        """
        if self.plan.unit == "example" or self.plan.noise == "local":
            # A bound on what has noise already would cut the noise.
            return {name: Group(group.arrays, 1.0) for name, group in update.groups.items()}
        inner = replace(update, groups={name: g for name, g in update.groups.items() if name != BIT})
        opened = self.inner.open(inner, _without_clip(task), own)
        return self._protected(opened, task, update.groups.get(BIT))

    def _protected(self, groups: Mapping[str, Group], task: Task, bit: Group | None) -> dict[str, Group]:
        # A bound that does not adapt is the plan's, whatever a task says.
        bound = self.plan.bound if self.plan.adaptive is None else float(task.extra[CLIP]["bound"][0])
        [(name, group)] = groups.items()
        arrays, within = clipped(group.arrays, bound, self.bits, self.layers(group.arrays))
        weight = capped(group.weight, self.weight_cap) if self.plan.weight_cap is not None else 1.0
        found = {name: Group(arrays, weight)}
        if self.plan.adaptive is not None:
            # What comes clipped says for itself whether it was.
            within = within if bit is None else float(bit.arrays["bit"][0]) > 0
            found[BIT] = Group(_bit(within), 1.0)
        return found

    def step(self, state: State, reduced: Reduction) -> State:
        [name] = [name for name in reduced if name != BIT]
        bound, group = state.scalars[CLIP], reduced[name]
        total = self._noisy(group.total, bound) if self.plan.noise == "server" else group.total
        noisy = Reduced(total, self.denominator, round(self.mechanism.cohort) or 1)
        after = self.inner.step(state, Reduction({name: noisy}, reduced.population))
        following = self._next_bound(bound, reduced) if BIT in reduced else bound
        return replace(after, scalars={**after.scalars, CLIP: following})

    def _noisy(self, total: Vector, bound: float) -> Vector:
        grid = grid_of(bound, self.bits) * (
            1.0 if self.plan.weight_cap is None else grid_of(self.weight_cap, WEIGHT_BITS)
        )
        noise = on_grid(self.draw, total.values.size, self.deviation(bound), grid)
        return Vector(total.schema, total.values + noise)

    @property
    def bits(self) -> int:
        """How much finer than the clip the grid of updates is, in bits."""
        if self.mechanism.sharing is not None:
            return self.mechanism.sharing.bits
        return EXAMPLE_BITS if self.plan.unit == "example" else GRID_BITS

    @property
    def steps(self) -> int:
        """The plan's clip in whole steps of its grid."""
        return math.floor(self.plan.bound / grid_of(self.plan.bound, self.bits))

    @property
    def variance(self) -> int:
        """Of the noise of one client, in steps of the grid; 0 where clients add none."""
        sharing = self.mechanism.sharing
        if sharing is None:
            return 0
        return sharing.variance(self.mechanism.noise_multiplier, self.plan.bound / grid_of(self.plan.bound, self.bits))

    @property
    def reach(self) -> float:
        """No number that a client adds to a secure sum is larger, its noise included."""
        noise = lattice.reach_of(self.variance) * grid_of(self.plan.bound, self.bits)
        return (self.plan.expected_examples or 1) * self.plan.bound + noise

    def own_noise(self, count: int) -> NDArray[np.int64]:
        """One client's part of `count` numbers' noise, in steps of the grid; new each time."""
        return lattice.skellam(self.variance).draw(count)

    def deviation(self, bound: float) -> float:
        """The standard deviation of the noise on the sum of updates of at most `bound`, or on each if it is local."""
        return self.update_noise * self.mechanism.sensitivity * bound * self.weight_cap

    @property
    def update_noise(self) -> float:
        """z_Δ = (z⁻² - (2σ_b)⁻²)^(-1/2): what is left for the updates once the count has its noise."""
        z, correlation = self.mechanism.noise_multiplier, self.mechanism.correlation
        if correlation is not None:
            return z * correlation.sensitivity(correlation.rounds)
        if self.plan.adaptive is None:
            return z
        return (z**-2 - (2 * self.count_noise) ** -2) ** -0.5

    @property
    def count_noise(self) -> float:
        """σ_b, in units of the sensitivity's factor."""
        adaptive = self.plan.adaptive
        if adaptive is not None and adaptive.count_noise is not None:
            return adaptive.count_noise
        return max(self.mechanism.cohort / 20, self.mechanism.noise_multiplier)

    def _next_bound(self, bound: float, reduced: Reduction) -> float:
        adaptive = self.plan.adaptive
        assert adaptive is not None
        noise = on_grid(self.draw, 1, self.count_noise * self.mechanism.sensitivity, 2.0**-20)
        share = 0.5 + (float(reduced[BIT].total["bit"][0]) + float(noise[0])) / self.mechanism.cohort
        return bound * math.exp(-adaptive.learning_rate * (share - adaptive.quantile))


def _bit(within: bool) -> Arrays:
    """±1/2: the count's sensitivity is 1/2 then."""
    return Arrays.of({"bit": np.array([0.5 if within else -0.5])})


def _without_clip(task: Task) -> Task:
    return replace(task, extra={name: arrays for name, arrays in task.extra.items() if name != CLIP})
