"""Mean losses over some rows of a batch, so that batches of several clients, or a short one, are computed at once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from umbel.errors import NotSupported

Masked: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

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


def masked(loss: Callable[..., Tensor]) -> Masked | None:
    """`(output, target, mask) → mean loss over the rows where mask is True`, for torch's own mean losses; else None."""
    each = _unreduced(loss)
    if each is None:
        return None
    rows: Callable[[Tensor, Tensor], Tensor] = each
    ignored = _ignored(loss)

    def mean(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        losses = rows(output, target)
        if ignored is None and output.shape != target.shape:
            raise ValueError(
                f"the loss has an output of shape {tuple(output.shape)} and a target of {tuple(target.shape)}"
            )
        # What a loss ignores is not in its mean either.
        counts = torch.ones_like(losses) if ignored is None or losses.shape != target.shape else target != ignored
        used = counts.reshape(len(mask), -1) * mask[:, None]
        return (losses.reshape(len(mask), -1) * used).sum() / used.sum()

    return mean


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
