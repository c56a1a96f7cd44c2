"""One model for many clients at once, evaluated or derived: their rows in large batches, and sums over each one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportPrivateImportUsage]

from umbel.block import Assessed
from umbel.clients.order import Numbers, means, shares
from umbel.clients.torch.masked import keeps_rows_apart, stirred
from umbel.errors import NotSupported

ROWS = 1024
"""How many rows go through the model at once, if a client's batch has no more."""


def assess(
    model: nn.Module,
    by_row: Callable[[Tensor, Tensor], Tensor],
    columns: Sequence[Tensor],
    lots: Sequence[Numbers],
    device: torch.device,
    batch_size: int,
) -> Assessed:
    """Evaluate `model`, which is in evaluation mode, on each client's rows.

    Args:
        by_row: `(output, target) → loss of each row`.
        columns: the examples of all clients, the target last.
        lots: each client's rows.
        batch_size: how many rows a client would take at once.

    Raises:
        NotSupported: the model looks from one row at another or draws at random, so that it matters who is beside it.
    """
    counts = np.array([len(lot) for lot in lots], np.int64)
    rows = torch.from_numpy(np.concatenate([*lots, np.zeros(0, np.int64)]))
    losses, hits = np.zeros(len(rows)), np.zeros(len(rows))
    labelled = True
    with torch.no_grad():
        for start in range(0, len(rows), size := max(ROWS, batch_size)):
            *inputs, target = [column[rows[start : start + size]].to(device) for column in columns]
            if start == 0:
                _make_sure(model, tuple(inputs))
            output = model(*inputs)
            losses[start : start + size] = _doubles(by_row(output, target))
            labelled = labelled and not target.is_floating_point() and output.ndim == target.ndim + 1
            if labelled:
                right = (output.argmax(1) == target).reshape(len(target), -1)
                hits[start : start + size] = _doubles(right.double().mean(1))
    metrics = {"accuracy": means(hits, counts)} if labelled and len(rows) else {}
    return Assessed([float(count) for count in counts], means(losses, counts), metrics)


def gradient_of(
    model: nn.Module,
    by_row: Callable[[Tensor, Tensor], Tensor],
    columns: Sequence[Tensor],
    lots: Sequence[Numbers],
    device: torch.device,
    batch_size: int,
    *,
    uniform: bool,
) -> list[float]:
    """Leave the gradient of the clients' mean loss at the parameters of `model`; returns each one's mean loss.

    Args:
        by_row, columns, lots, batch_size: as of `assess`.
        uniform: each client weighs the same; else each row does.

    Raises:
        NotSupported: as `assess`.
    """
    counts = np.array([len(lot) for lot in lots], np.int64)
    rows = torch.from_numpy(np.concatenate([*lots, np.zeros(0, np.int64)]))
    weights = torch.from_numpy(shares(counts, uniform=uniform))
    losses = np.zeros(len(rows))
    for start in range(0, len(rows), size := max(ROWS, batch_size)):
        those = slice(start, start + size)
        *inputs, target = [column[rows[those]].to(device) for column in columns]
        if start == 0:
            _make_sure(model, tuple(inputs))
        each = by_row(model(*inputs), target)
        (each * weights[those].to(each)).sum().backward()  # pyright: ignore[reportUnknownMemberType]
        losses[those] = _doubles(each.detach())
    return means(losses, counts)


def _doubles(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()


def _make_sure(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Refuse a model whose output for a row depends on the others, or is another each time."""
    other = {name: stirred(param.detach()) for name, param in model.named_parameters()}
    whole = len(inputs[0]) if inputs else 0
    if whole > 1 and not keeps_rows_apart(partial(functional_call, model, other), inputs, whole - 1):
        raise NotSupported("its model looks from one row of a batch at another, or draws at random")
