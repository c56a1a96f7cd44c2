"""What clients of all kinds are given: how often to go through data, which rows are whose, and functions."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast, final

import numpy as np

from umbel.clients.order import Numbers, Parts, rows_of
from umbel.errors import ConfigError, UmbelError
from umbel.message import Context, require


def check_passes(
    *, batch_size: object, epochs: object, shuffle: object, max_steps: object = None, whole_batch: bool = False
) -> None:
    """Refuse passes over the data that are none.

    Args:
        whole_batch: whether a `batch_size` of None means something.
    """
    least = "must be a whole number of at least"
    require(
        (whole_batch and batch_size is None) or is_whole(batch_size, 1),
        f"batch_size {least} 1{' or None' if whole_batch else ''}, got {batch_size!r}; try 32",
    )
    require(is_whole(epochs, 0), f"epochs {least} 0, got {epochs!r}; try 1")
    require(
        max_steps is None or is_whole(max_steps, 0),
        f"max_steps {least} 0 or None, got {max_steps!r}; None goes through all epochs",
    )
    require(isinstance(shuffle, (bool, np.bool_)), f"shuffle must be True or False, got {shuffle!r}")


def check_clip(norm: object) -> None:
    """Refuse a norm to clip to that is none."""
    fine = norm is None or (is_real(norm) and cast("float", norm) > 0)
    require(fine, f"clip_grad_norm must be above 0 or None, got {norm!r}; try 1.0")


def check_momentum(momentum: object) -> None:
    """Refuse a momentum that is none."""
    fine = is_real(momentum) and 0 <= cast("float", momentum) < 1
    require(fine, f"momentum must be at least 0 and below 1, got {momentum!r}; try 0.9")


def check_rate(lr: object) -> None:
    """Refuse a learning rate that is none."""
    fine = is_real(lr) and 0 < cast("float", lr) < float("inf")
    require(fine, f"lr must be a number above 0, got {lr!r}; try 0.1")


def check_function(name: str, value: object, shape: str) -> None:
    """Refuse what is neither a function nor None. `shape` says what it takes and gives."""
    require(value is None or callable(value), f"{name} must be a function {shape} or None, got {value!r}")


def check_metrics(metrics: object, shape: str) -> None:
    """Refuse what is no mapping from names to functions."""
    if metrics is None:
        return
    named = cast("Mapping[Any, Any]", metrics) if isinstance(metrics, Mapping) else {None: None}
    require(
        all(isinstance(name, str) and callable(value) for name, value in named.items()),
        f"metrics must map names to functions {shape}, got {metrics!r}; "
        'try metrics={"accuracy": ...}, or None for the default',
    )


def is_whole(value: object, least: int) -> bool:
    """Whether an argument is a whole number of at least so much, NumPy's included; truth values are none."""
    if isinstance(value, (bool, np.bool_)):
        return False
    try:
        return operator.index(cast("Any", value)) >= least
    except TypeError:
        return False


def is_real(value: object) -> bool:
    """Whether an argument is a number, NumPy's included; truth values are none."""
    return isinstance(value, (int, float, np.number, Real)) and not isinstance(value, (bool, np.complexfloating))


def checked_parts(name: str, parts: Any, size: int) -> Parts:
    """`parts`, all of whose rows are rows of data that have `size`: looked at now if they lie there, else when asked.

    Raises:
        ConfigError: they are no parts, or a row is none; names the client.
    """
    if callable(parts):
        return _Watched(name, parts, size)
    is_some = isinstance(parts, Sized) and hasattr(parts, "__getitem__") and not isinstance(parts, (str, bytes))
    require(
        is_some,
        f"{name} must hold the rows of each client, as a list or a Partition, or be a function of a client's number, "
        f"got {parts!r}; try IID(10).split(y)",
    )
    require(len(parts) > 0, f"{name} is empty; give the rows of at least one client, such as IID(10).split(y)")
    if not isinstance(parts, (list, tuple, np.ndarray)):
        return _Watched(name, parts, size)
    rows = [rows_of(cast("Sequence[Any]", parts), number) for number in range(len(cast("Sequence[Any]", parts)))]
    if not _are_rows(np.concatenate(rows), size):
        number = next(number for number, own in enumerate(rows) if not _are_rows(own, size))
        raise _no_row(name, number, rows[number], size)
    return cast("Parts", parts)


def check_enough(context: Context, **parts: Any) -> None:
    """Refuse to be asked for more clients than there are parts for; those that are a function do not say."""
    for name, given in parts.items():
        if not isinstance(given, Sized):
            continue
        there, wanted = len(given), max(context.num_partitions, context.partition_id + 1)
        require(
            wanted <= there,
            f"{name} has the rows of {there} clients and there are {wanted}; take num_clients={there}, or split the "
            f"data into {wanted}",
        )


@final
@dataclass(frozen=True)
class _Watched:
    """Parts whose rows are looked at when they are asked for."""

    name: str
    parts: Any
    size: int

    def __call__(self, number: int) -> Numbers:
        try:
            rows = rows_of(self.parts, number)
        except UmbelError:
            raise
        except Exception as error:
            said = f"{self.name} gives client {number} no rows: {type(error).__name__}: {error}"
            raise ConfigError(f"{said}; it must give some for each client, which may be none") from error
        if not _are_rows(rows, self.size):
            raise _no_row(self.name, number, rows, self.size)
        return rows


def _are_rows(rows: Numbers, size: int) -> bool:
    # A negative row, which would count from the end, is a very large one here.
    return not rows.size or int(np.maximum.reduce(rows.view(np.uint64))) < size


def _no_row(name: str, number: int, rows: Numbers, size: int) -> ConfigError:
    bad = next(row for row in rows.tolist() if not 0 <= row < size)
    return ConfigError(
        f"{name} gives client {number} the row {bad}, and the data have the rows 0 to {size - 1}; split these data anew"
    )
