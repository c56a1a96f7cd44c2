"""One local step of a JAX model: gradient, clipping, correction, optimiser; compiled once for all clients of a kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias, final

import jax
import jax.numpy as jnp

from umbel.clients.jax.tree import Leaves, Tree, tree_map
from umbel.clients.same import kind
from umbel.randomness import derive

Loss: TypeAlias = Callable[..., Any]
Metric: TypeAlias = Callable[[Any, Any], Any]


@final
@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent, v ← momentum·v + g, x ← x - lr·v; with optax's `init` and `update`."""

    lr: float
    momentum: float

    def init(self, params: Any) -> Any:
        return tree_map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params) if self.momentum else None

    def update(self, gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
        if self.momentum:
            state = tree_map(lambda v, g: self.momentum * v + g, state, gradients)
            gradients = state
        return tree_map(lambda g: -self.lr * g, gradients), state


@final
@dataclass(frozen=True, eq=False)
class Recipe:
    """How clients train. Equal recipes compute the same, though their functions were made anew for each client.

    Attributes:
        tree: the form of the model.
        loss: `(params, batch) → mean loss`, or with a third parameter `key`.
        optimizer: `init` and `update` as optax has them.
        clip: the norm to which the raw gradient is clipped; None does not.
        metrics: name → `(params, batch) → mean`.
    """

    tree: Tree
    loss: Loss
    optimizer: Any
    clip: float | None
    metrics: Mapping[str, Metric]

    @cached_property
    def kind(self) -> Hashable:
        metrics = tuple((name, kind(metric)) for name, metric in self.metrics.items())
        return (self.tree.kind, kind(self.loss), kind(self.optimizer), self.clip, metrics)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and other.kind == self.kind

    def __hash__(self) -> int:
        return hash(self.kind)

    @cached_property
    def takes_key(self) -> bool:
        return takes_key(self.loss)

    def value(self, trained: Leaves, rest: Leaves, batch: Any, key: Any) -> Any:
        """The mean loss; `key` is None where nothing is drawn."""
        params = self.tree.whole(trained, rest)
        return self.loss(params, batch, key=key) if self.takes_key else self.loss(params, batch)

    def gradients(self, trained: Leaves, rest: Leaves, batch: Any, key: Any) -> tuple[Any, Leaves]:
        """(mean loss, clipped gradients)."""
        loss, found = self.raw(trained, rest, batch, key)
        return loss, found if self.clip is None else clipped(found, self.clip)

    def raw(self, trained: Leaves, rest: Leaves, batch: Any, key: Any) -> tuple[Any, Leaves]:
        """(mean loss, gradients)."""
        return jax.value_and_grad(self.value)(trained, rest, batch, key)

    def start(self, trained: Leaves) -> Any:
        """What the optimiser remembers at first."""
        return self.optimizer.init(self.tree.whole(trained))

    def moved(self, trained: Leaves, gradients: Leaves, state: Any) -> tuple[Leaves, Any]:
        """(parameters after the step, what the optimiser remembers)."""
        whole = self.tree.whole(trained)
        changes, state = self.optimizer.update(self.tree.whole(gradients), state, whole)
        steps = self.tree.apart(changes)
        return {name: (old + steps[name]).astype(old.dtype) for name, old in trained.items()}, state

    def step(self, trained: Leaves, rest: Leaves, state: Any, batch: Any, key: Any) -> tuple[Leaves, Any, Any]:
        """(parameters, state, loss) after a step without correction."""
        loss, found = self.gradients(trained, rest, batch, key)
        return *self.moved(trained, found, state), loss

    def measured(self, trained: Leaves, rest: Leaves, batch: Any) -> Leaves:
        """The loss and the metrics of one batch, with nothing drawn."""
        params = self.tree.whole(trained, rest)
        return {name: metric(params, batch) for name, metric in self.metrics.items()} | {
            "loss": self.value(trained, rest, batch, None)
        }


@final
@dataclass(frozen=True)
class Compiled:
    """A recipe's functions, compiled for each shape of a batch when it comes."""

    start: Callable[..., Any]
    raw: Callable[..., Any]
    gradients: Callable[..., Any]
    moved: Callable[..., Any]
    step: Callable[..., Any]
    measured: Callable[..., Any]


@lru_cache(maxsize=64)
def compiled(recipe: Recipe) -> Compiled:
    """The compiled functions of all recipes that are equal to this one."""

    return Compiled(
        jax.jit(recipe.start),
        jax.jit(recipe.raw),
        jax.jit(recipe.gradients),
        jax.jit(recipe.moved),
        jax.jit(recipe.step),
        jax.jit(recipe.measured),
    )


def clipped(gradients: Leaves, most: float) -> Leaves:
    """The gradients, shortened to the norm `most` if they are longer."""
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in gradients.values()))
    factor = jnp.minimum(1.0, most / (norm + 1e-6))
    return {name: (g * factor).astype(g.dtype) for name, g in gradients.items()}


def path_length(lr: float, momentum: float, steps: int) -> float:
    """The sum of the step sizes; with momentum a gradient goes on acting."""
    path = reach = 0.0
    for _ in range(steps):
        reach = momentum * reach + 1.0
        path += lr * reach
    return path


def takes_key(loss: Loss) -> bool:
    """Whether a loss wants a key for what it draws."""
    try:
        return "key" in inspect.signature(loss).parameters
    except (TypeError, ValueError):  # of some compiled functions it cannot be told
        return False


def key_of(root: int) -> Any:
    """The JAX key of a turn: for whatever the loss draws."""
    number = derive(root, "loss")
    return jax.random.fold_in(jax.random.key(number & 0x7FFFFFFF), (number >> 31) & 0x7FFFFFFF)
