"""torch's own mean losses taken apart: of each row, and of each client's rows where many are computed at once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from umbel.errors import NotSupported

ByClient: TypeAlias = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]

_MODULES = (nn.CrossEntropyLoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss, nn.BCELoss)
_FUNCTIONS = (
    functional.cross_entropy,
    functional.mse_loss,
    functional.l1_loss,
    functional.smooth_l1_loss,
    functional.huber_loss,
    functional.binary_cross_entropy_with_logits,
    functional.binary_cross_entropy,
)


def by_client(loss: Callable[..., Tensor]) -> ByClient | None:
    """`(output, target, mask) → mean loss of each client`, all at once, for torch's own mean losses; else None.

    Outputs and targets are stacked, clients first and then the rows of their batches. `mask` says which rows count;
    None counts all. The function raises `NotSupported` for outputs whose rows are not those of the targets.
    """
    each = _unreduced(loss)
    if each is None:
        return None
    losses_of: Callable[[Tensor, Tensor], Tensor] = each
    ignored = _ignored(loss)

    def means(output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        rows = target.shape[:2]
        if output.shape[:2] != rows or (ignored is None and output.shape != target.shape):
            raise NotSupported(
                f"its loss has an output of shape {tuple(output.shape[1:])} and a target of {tuple(target.shape[1:])}"
            )
        flat = target.flatten(0, 1)
        losses = losses_of(output.flatten(0, 1), flat)
        # What a loss ignores is not in its mean either.
        chooses = ignored is not None and losses.shape == flat.shape
        losses = losses.reshape(*rows, -1)
        if mask is None and not chooses:
            return losses.mean((1, 2))
        used = (target != ignored).reshape(losses.shape) if chooses else torch.ones_like(losses)
        if mask is not None:
            used = used * mask[:, :, None]
        return (losses * used).sum((1, 2)) / used.sum((1, 2))

    return means


def by_row(loss: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor] | None:
    """`(output, target) → loss of each row`, whose mean is the loss, for torch's own mean losses; else None.

    The function raises `NotSupported` for targets of which the mean would not be that of its rows.
    """
    each = _unreduced(loss)
    if each is None:
        return None
    losses_of: Callable[[Tensor, Tensor], Tensor] = each
    ignored = _ignored(loss)

    def rows(output: Tensor, target: Tensor) -> Tensor:
        if ignored is None and output.shape != target.shape:
            raise NotSupported("its loss has an output and a target of different shapes")
        losses = losses_of(output, target)
        if ignored is not None and losses.shape == target.shape and bool((target == ignored).any()):
            raise NotSupported("its loss leaves some targets out")
        return losses.reshape(len(losses), -1).mean(1)

    return rows


def _ignored(loss: Any) -> int | None:
    """The class that cross entropy leaves out."""
    if loss is functional.cross_entropy:
        return -100
    return loss.ignore_index if isinstance(loss, nn.CrossEntropyLoss) else None


def _unreduced(loss: Any) -> Callable[[Tensor, Tensor], Tensor] | None:
    if loss in _FUNCTIONS:
        return partial(loss, reduction="none")
    if type(loss) not in _MODULES or loss.reduction != "mean" or getattr(loss, "weight", None) is not None:
        return None
    apart = copy.copy(loss)
    apart.reduction = "none"
    return cast("Callable[[Tensor, Tensor], Tensor]", apart)


def keeps_rows_apart(call: Callable[..., object], inputs: tuple[Tensor, ...], short: int) -> bool:
    """Whether the first `short` rows of a batch give the same outputs without the others (not so batch
    normalisation)."""
    with torch.no_grad():
        whole, part = call(inputs), call(tuple(tensor[:short] for tensor in inputs))
    if not isinstance(whole, Tensor) or not isinstance(part, Tensor) or not whole.ndim or len(part) != short:
        return False
    return len(whole) > short and torch.allclose(whole[:short], part, rtol=1e-4, atol=1e-5)


def stirred(values: Tensor) -> Tensor:
    """Other values than zeros, which would hide what a model does before them."""
    if not values.is_floating_point():
        return values
    return values + 0.1 * torch.arange(values.numel(), device=values.device).cos().reshape(values.shape).to(
        values.dtype
    )
