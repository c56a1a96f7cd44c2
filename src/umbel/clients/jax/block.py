"""Many `JaxClient`s of one kind trained at once: each step is one `jax.vmap` over their stacked parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from umbel.arrays import Arrays
from umbel.block import Member
from umbel.clients.jax.data import rows
from umbel.clients.jax.device import placed
from umbel.clients.jax.step import Recipe, key_of, path_length
from umbel.clients.jax.tree import Leaves, filled, host, tree_map
from umbel.clients.order import Numbers, Order
from umbel.clients.same import Alike
from umbel.local_client import Fitted


@final
@dataclass(frozen=True)
class Steps:
    """How the clients of one kind step: by this recipe, with steps of this size as strategies see them, and where."""

    recipe: Recipe
    lr: float
    momentum: float
    place: Any = None


def train_block(steps: Steps, members: Sequence[Member], columns: Any, order: Order) -> list[Fitted]:
    """Train the clients of a block side by side.

    They are sorted by their number of steps. At each step those that have one are divided by the size of their batch,
    and each group is computed at once: a batch keeps its own size, whatever the loss makes of its rows.

    Args:
        members: start, context and correction of each client.
        columns: the examples of all clients.
        order: the rows of each one's steps, in the order of `members`.
    """
    places = np.argsort(-order.steps, kind="stable")
    block = _Block(steps, [members[int(place)] for place in places], columns, order.of(places))
    block.train()
    fitted = list(block.results())
    return [fitted[int(place)] for place in np.argsort(places)]


@final
class _Block:
    """The stacked models of clients that are sorted by their number of steps, most first."""

    def __init__(self, steps: Steps, members: Sequence[Member], columns: Any, order: Order) -> None:
        self.steps, self.members, self.columns, self.order = steps, members, columns, order
        recipe = steps.recipe
        whole = placed(_stacked([member.start for member in members]), steps.place)
        self.origin = {name: whole[name] for name in recipe.tree.trained_names}
        self.rest = {name: whole[name] for name in recipe.tree.names if name not in self.origin}
        corrections = [member.correction for member in members if member.correction is not None]
        extras = [correction.extra for correction in corrections if correction.extra is not None]
        self.extra = placed(_stacked(extras), steps.place) if extras else {}
        self.step = _compiled(recipe, Alike(corrections[0].rule if corrections else None))
        self.trained = self.origin
        self.memory = jax.vmap(recipe.start)(self.trained)
        self.keys = np.stack([_bits(member) for member in members]) if recipe.takes_key else None
        self.loss_sum = np.zeros(len(members))
        self.seen = np.zeros(len(members), np.int64)
        self.largest = int(order.sizes.max(initial=0))

    def train(self) -> None:
        for number in range(int(self.order.steps.max(initial=0))):
            picked, sizes = self.order.step(number)
            for size in np.unique(sizes)[::-1]:
                chosen = np.flatnonzero(sizes == size)
                self._step(number, chosen, picked[chosen, :size])
                self.seen[chosen] += size

    def _step(self, number: int, chosen: Numbers, picked: Numbers) -> None:
        count = len(chosen)
        padded = _room(count, len(self.members), picked.shape[1] < self.largest) - count
        # Clients beyond the last are computed and thrown away: otherwise each number of clients were compiled anew.
        index = np.concatenate([chosen, np.full(padded, len(self.members))])
        batch = rows(self.columns, np.concatenate([picked, np.repeat(picked[:1], padded, axis=0)]))
        given = (self.rest, self.origin, self.extra, self.keys)
        everyone = count == len(self.members)
        self.trained, self.memory, losses = self.step(
            (self.trained, self.memory), given, None if everyone else index, batch, np.int32(number)
        )
        self.loss_sum[chosen] += np.asarray(losses, np.float64)[:count] * picked.shape[1]

    def results(self) -> Iterator[Fitted]:
        values = {name: np.asarray(leaf) for name, leaf in {**self.trained, **self.rest}.items()}
        seen = np.minimum(self.seen, self.order.counts)
        for place, member in enumerate(self.members):
            arrays = filled(member.start.schema, {name: value[place] for name, value in values.items()})
            done = int(self.order.steps[place])
            metrics = {"loss": float(self.loss_sum[place] / self.seen[place])} if self.seen[place] else {}
            path = path_length(self.steps.lr, self.steps.momentum, done)
            yield Fitted(arrays, int(seen[place]), done, path, metrics)


_wrapped: Callable[..., Any] = jax.random.wrap_key_data


@lru_cache(maxsize=64)
def _compiled(recipe: Recipe, rule: Alike) -> Callable[..., Any]:
    """A step of some clients of a block, the others as they are."""

    def one(trained: Leaves, memory: Any, given: Any, batch: Any, number: Any) -> tuple[Leaves, Any, Any]:
        rest, origin, extra, bits = given
        key = None if bits is None else jax.random.fold_in(_wrapped(bits), number)
        loss, found = recipe.gradients(trained, rest, batch, key)
        if rule.value is not None:
            found = {
                name: rule.value(grad, trained[name], origin[name], extra.get(name)).astype(grad.dtype)
                for name, grad in found.items()
            }
        return *recipe.moved(trained, found, memory), loss

    many: Callable[..., Any] = jax.vmap(one, in_axes=(0, 0, 0, 0, None))

    def step(stack: Any, given: Any, index: Any, batch: Any, number: Any) -> tuple[Leaves, Any, Any]:
        if index is None:
            return many(*stack, given, batch, number)
        chosen, own = tree_map(lambda leaf: leaf.at[index].get(mode="clip"), (stack, given))
        *new, losses = many(*chosen, own, batch, number)
        put = tree_map(lambda leaf, part: leaf.at[index].set(part, mode="drop"), stack, tuple(new))
        return *put, losses

    return jax.jit(step)


def _room(count: int, most: int, rare: bool) -> int:
    """For how many clients a step is compiled that `count` take: a power of two, of four if it is rare, or all."""
    bits = max(3, (count - 1).bit_length())
    return min(most, 1 << (bits + bits % 2 if rare else bits))


def _bits(member: Member) -> Any:
    return np.asarray(jax.random.key_data(key_of(member.ctx.key)))


def _stacked(given: Sequence[Arrays]) -> Leaves:
    """All clients' arrays, stacked by name; one that all share is spread out."""
    first = host(given[0])
    if all(arrays is given[0] for arrays in given):
        return {name: jnp.broadcast_to(value, (len(given), *value.shape)) for name, value in first.items()}
    each: list[Mapping[str, Any]] = [host(arrays) for arrays in given]
    return {name: jnp.asarray(np.stack([values[name] for values in each])) for name in first}
