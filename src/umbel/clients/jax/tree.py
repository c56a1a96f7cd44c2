"""A pytree of JAX arrays as named arrays and back: each leaf is named by its path, as in "dense/kernel"."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast, final

import jax
import jax.numpy as jnp
import numpy as np

from umbel.arrays import Arrays
from umbel.errors import ArraysError, ConfigError
from umbel.schema import Role, Schema

Leaves: TypeAlias = dict[str, Any]
ALONE = "params"
"""What the array is called if it is the whole tree."""


@final
@dataclass(frozen=True)
class Tree:
    """The form of a model's pytree.

    Attributes:
        structure: what the leaves hang in.
        names: of the leaves, in its order.
        trained: names of the leaves of floating point; others have no gradient.
    """

    structure: Any
    names: tuple[str, ...]
    trained: frozenset[str]

    @classmethod
    def of(cls, params: Any) -> tuple[Tree, Arrays]:
        """The form of `params`, and its values.

        Raises:
            ConfigError: a leaf is no array, two have one name, or there is none.
            ArraysError: a dtype cannot be part of a model.
        """
        found, structure = cast("tuple[list[Any], Any]", jax.tree_util.tree_flatten_with_path(params))
        values: dict[str, Any] = {}
        for path, leaf in found:
            name = "/".join(map(_part, path)) or ALONE
            if name in values:
                raise ConfigError(f"two leaves of params are called {name!r}; give the keys of mappings other names")
            values[name] = _array(name, leaf)
        if not values:
            raise ConfigError("params has no arrays; give the pytree of the model's parameters")
        trained = frozenset(name for name, value in values.items() if jnp.issubdtype(value.dtype, jnp.floating))
        roles: dict[str, Role] = {name: "frozen" for name in values if name not in trained}
        return cls(structure, tuple(values), trained), Arrays.of(values, roles=roles)

    def whole(self, *parts: Mapping[str, Any]) -> Any:
        """The pytree of leaves by name; those that are in none of the parts are None."""
        given: Leaves = {name: leaf for part in parts for name, leaf in part.items()}
        return self.structure.unflatten([given.get(name) for name in self.names])

    def apart(self, tree: Any) -> Leaves:
        """The leaves by name of what `whole` made of the trained ones, or of a tree of the same form."""
        leaves = jax.tree_util.tree_leaves(tree)
        return dict(zip(self.trained_names, leaves, strict=True))

    @cached_property
    def trained_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name in self.trained)

    @property
    def kind(self) -> Hashable:
        return (self.structure, self.names, self.trained)

    def check(self, given: Schema, own: Schema) -> None:
        """Refuse a task whose arrays are not those of the client's model.

        Raises:
            ArraysError: names or shapes differ.
        """
        names = given.by_name
        missing = [n for n in self.names if n not in names] or [n for n in names if n not in own.by_name]
        if missing:
            raise ArraysError(
                f"the task and the client's params differ in the array {missing[0]!r} (did the model change?)"
            )
        for spec in given.specs:
            shape = own.by_name[spec.name].shape
            if spec.shape != shape:
                raise ArraysError(
                    f"array {spec.name!r} has shape {spec.shape} in the task and {shape} in the client's params"
                )


def tree_map(function: Callable[[Any], Any] | Callable[[Any, Any], Any], *trees: Any) -> Any:
    """A tree of what `function` makes of each leaf of trees of one form."""
    return jax.tree_util.tree_map(function, *trees)


def leaves(arrays: Arrays) -> Leaves:
    """Copies of the arrays as JAX arrays."""
    return {name: jnp.array(value) for name, value in host(arrays).items()}


def host(arrays: Arrays) -> Leaves:
    """The arrays as NumPy arrays that JAX understands, on the same memory."""
    halves = {spec.name for spec in arrays.schema.specs if spec.dtype == "BF16"}
    return {name: value.view(jnp.bfloat16) if name in halves else value for name, value in arrays.items()}


def filled(schema: Schema, values: Mapping[str, Any]) -> Arrays:
    """Arrays of `schema` with these values."""
    result = Arrays.empty(schema)
    result.fill({name: np.asarray(values[name]) for name in schema.by_name})
    return result.frozen()


def _part(key: Any) -> str:
    """One step of a path as text: a mapping's key, a place in a sequence, or an attribute."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _array(name: str, leaf: Any) -> Any:
    try:
        return np.asarray(jnp.asarray(leaf))
    except TypeError:
        raise ConfigError(
            f"the leaf {name!r} of params is a {type(leaf).__name__}; leaves must be arrays, take others out first "
            "(equinox.partition, flax.nnx.split)"
        ) from None
