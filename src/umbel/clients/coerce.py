"""Forgiving readers of what user code returns: lists or dicts, other float widths, tuples without metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, is_numbered, named
from umbel.clients.initial import to_numpy
from umbel.dtypes import DTYPES, bfloat16, code_of, narrow, widen
from umbel.errors import ArraysError, UpdateRefused
from umbel.schema import ArraySpec, Schema


def to_user(arrays: Arrays) -> list[NDArray[Any]] | dict[str, NDArray[Any]]:
    """Private writable arrays: a list if the model is one, bfloat16 as float32."""
    copy = arrays.copy()
    values = {
        name: widen(view, "BF16").astype(np.float32) if arrays.schema.by_name[name].dtype == "BF16" else view
        for name, view in copy.views.items()
    }
    return list(values.values()) if is_numbered(list(values)) else values


def from_user(client: str, returned: Any, schema: Schema) -> dict[str, NDArray[Any]]:
    """What `fit` returned, by name, in the dtypes of `schema`: other float widths are converted, all else must fit.

    Arrays that fit as they are are not copied.

    Raises:
        UpdateRefused: an array is missing, too many, of another shape, or of a kind that cannot be converted.
    """
    try:
        values = named(returned)
    except ArraysError as error:
        raise UpdateRefused(client, f"fit returned parameters that are no arrays: {error}") from None
    _check_names(client, values, schema)
    return {spec.name: _fitting(client, spec, values[spec.name]) for spec in schema.specs}


def _check_names(client: str, values: Mapping[str, Any], schema: Schema) -> None:
    if values.keys() == schema.by_name.keys():
        return
    names = list(schema.by_name)
    if is_numbered(names) and is_numbered(list(values)):
        raise UpdateRefused(client, f"fit returned {len(values)} arrays, the model has {len(names)}")
    extra = [name for name in values if name not in schema.by_name]
    missing = [name for name in names if name not in values]
    if missing and extra:
        raise UpdateRefused(
            client,
            f"array names differ: the client sent {extra[0]!r}, the task has {missing[0]!r} (did the model change?)",
        )
    which = f"lacks the array {missing[0]!r}" if missing else f"has the extra array {extra[0]!r}"
    raise UpdateRefused(client, f"what fit returned {which}; the model has {', '.join(names)}")


def _fitting(client: str, spec: ArraySpec, value: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.asarray(to_numpy(value))
    if array.shape != spec.shape:
        raise UpdateRefused(client, f"array {spec.name!r} has shape {array.shape}, the model has {spec.shape}")
    if array.dtype == DTYPES[spec.dtype] and spec.dtype not in ("BF16", "U16"):
        return array
    try:
        code = code_of(array.dtype)
    except ArraysError as error:
        raise UpdateRefused(client, f"array {spec.name!r}: {error}") from None
    if spec.dtype == "BF16":
        return array.view(bfloat16) if code == "BF16" else narrow(array.astype(np.float64), "BF16")
    if code == spec.dtype:
        return array
    if code != "BF16" and np.can_cast(array.dtype, DTYPES[spec.dtype], "same_kind"):
        with np.errstate(over="ignore", invalid="ignore"):
            return array.astype(DTYPES[spec.dtype])
    raise UpdateRefused(
        client, f"array {spec.name!r} has dtype {array.dtype}, the model has {spec.dtype}; convert it before returning"
    )


def triple(client: str, method: str, returned: Any, shape: str) -> tuple[Any, Any, Mapping[str, Any]]:
    """(first, num_examples, metrics) from what `method` returned; metrics may be left out.

    Raises:
        UpdateRefused: it is not a tuple of two or three.
    """
    if isinstance(returned, tuple):
        parts = cast("tuple[Any, ...]", returned)
        if len(parts) == 2:
            return parts[0], parts[1], {}
        if len(parts) == 3 and (parts[2] is None or isinstance(parts[2], Mapping)):
            return parts[0], parts[1], cast("Mapping[str, Any]", parts[2] or {})
    kind = type(cast("object", returned)).__name__
    if isinstance(returned, (tuple, list)):
        kind += f" of {len(cast('Sequence[Any]', returned))}"
    raise UpdateRefused(client, f"{method} returned a {kind}; it must return ({shape}, num_examples, metrics)")
