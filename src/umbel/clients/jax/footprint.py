"""How much memory a step of a JAX model takes, as its compiler plans it."""

from __future__ import annotations

from typing import Any

import jax

from umbel.clients.jax.step import Recipe, key_of
from umbel.clients.jax.tree import Leaves
from umbel.footprint import Footprint


def measured(recipe: Recipe, trained: Leaves, rest: Leaves, batch: Any) -> Footprint | None:
    """The footprint of one step; None where the compiler does not tell, or the step cannot be compiled.

    A step is compiled for shapes alone: nothing is computed, and no value is looked at. What the compiler frees before
    the step's end and uses again counts once.
    """
    key = key_of(0) if recipe.takes_key else None
    try:
        shapes: Any = jax.eval_shape(_same, (trained, rest, batch, key))
        planned: Any = jax.jit(recipe.raw).lower(*shapes).compile().memory_analysis()
        memory = jax.eval_shape(recipe.start, shapes[0])
    except Exception:  # if it cannot at all, the client's turns will tell
        return None
    if planned is None:
        return None
    return Footprint(
        model=_bytes((shapes[0], shapes[1])),
        gradients=_bytes(shapes[0]),
        optimizer=_bytes(memory),
        activations=int(planned.temp_size_in_bytes),
        batch=_bytes(shapes[2]),
    )


def _same(given: Any) -> Any:
    return given


def _bytes(tree: Any) -> int:
    """Of all arrays, or shapes, in a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree_util.tree_leaves(tree))
