"""Many `TorchClient`s of one kind trained at once: each step is one batched computation over their stacked models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap  # pyright: ignore[reportPrivateImportUsage]

from umbel.arrays import Arrays
from umbel.block import Member, Trained, blank_rows
from umbel.clients.order import Numbers, Order
from umbel.clients.torch.arrays import as_tensor, tensors
from umbel.clients.torch.masked import ByClient, by_client, keeps_rows_apart, stirred
from umbel.clients.torch.stacked import Rates, Stacked, path_lengths, stacked_optimizer
from umbel.local import Correction, Rule
from umbel.local_client import Fitted
from umbel.schema import Schema


@final
@dataclass(frozen=True)
class Recipe:
    """How the clients of one kind train.

    Attributes:
        model: one client's module, in training mode; its own values are not used.
        loss: `(output, target) → mean loss`.
        rates: the local optimiser's type and numbers.
        clip: the norm to which each client's raw gradient is clipped; None does not.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    rates: Rates
    clip: float | None


def train_block(recipe: Recipe, members: Sequence[Member], columns: Sequence[Tensor], order: Order) -> list[Fitted]:
    """Train the clients of a block side by side.

    They are sorted by their number of steps; at each step those that still have one are a prefix of the stacked
    tensors, so that nobody computes for nothing.

    Args:
        members: start, context and correction of each client.
        columns: the examples of all clients, the target last.
        order: the rows of each one's steps, in the order of `members`.
    """
    block, back = _trained(recipe, members, columns, order)
    fitted = list(block.results())
    return [fitted[place] for place in back]


def train_rows(recipe: Recipe, members: Sequence[Member], columns: Sequence[Tensor], order: Order) -> Trained:
    """The same with the clients' changes left in one piece of memory."""
    block, back = _trained(recipe, members, columns, order)
    losses, examples = block.losses(), block.examples()
    return Trained(
        block.changes()[back],
        [float(examples[place]) for place in back],
        _whole(order.steps),
        [losses[place] for place in back],
    )


def _trained(
    recipe: Recipe, members: Sequence[Member], columns: Sequence[Tensor], order: Order
) -> tuple[_Block, list[int]]:
    """A block after training, and the place of each client in it."""
    places = np.argsort(-order.steps, kind="stable")
    block = _Block(recipe, [members[place] for place in _whole(places)], columns, order.of(places))
    block.train()
    return block, _whole(np.argsort(places))


def _whole(numbers: Numbers) -> list[int]:
    return cast("list[int]", numbers.tolist())


@final
class _Block:
    """The stacked models of clients that are sorted by their number of steps, most first."""

    def __init__(self, recipe: Recipe, members: Sequence[Member], columns: Sequence[Tensor], order: Order) -> None:
        self.recipe, self.members, self.order = recipe, members, order
        self.model = recipe.model
        starts = _starts(members)
        own = {name: value for name, value in self.model.state_dict(keep_vars=True).items() if name in starts[0]}
        device = next(iter(own.values())).device
        trained = {name for name, param in self.model.named_parameters() if param.requires_grad}
        whole = {name: _stack([start[name] for start in starts], own[name]) for name in own}
        self.origin = whole
        self.params = {name: whole[name].clone() for name in own if name in trained}
        self.rest = {name: whole[name].clone() for name in own if name not in trained}
        self.extra = _extras(members, device)
        self.rule = members[0].correction and members[0].correction.rule
        self.optimizer: Stacked = stacked_optimizer(recipe.rates, self.params)
        self.columns = [column.to(device) for column in columns]
        self.means: ByClient | None = by_client(recipe.loss)
        self.may_fill = self.means is not None and not self._keeps_statistics()
        self.is_sure = False
        self.loss_sum = torch.zeros(len(members), dtype=torch.float64)
        self.seen = np.zeros(len(members), np.int64)

    def train(self) -> None:
        for number in range(int(self.order.steps.max())):
            rows, sizes = self.order.step(number)
            if number == 0 and (self.recipe.rates.weight_decay or self.rule is not None):
                self._leave_unused(rows[0, : sizes[0]])
            for chosen, picked, mask in self._together(rows, sizes):
                self._step(number, chosen, torch.from_numpy(picked), mask)
            self.seen[: len(sizes)] += sizes

    def _leave_unused(self, rows: Numbers) -> None:
        """Keep parameters that the loss does not depend on out of training: decay and corrections pass them over."""
        one = {name: tensor[0].detach().requires_grad_() for name, tensor in self.params.items()}
        rest = {name: tensor[0].clone() for name, tensor in self.rest.items()}
        *inputs, target = [column[torch.from_numpy(rows).to(column.device)] for column in self.columns]
        loss = self.recipe.loss(functional_call(self.model, {**one, **rest}, tuple(inputs)), target)
        found = cast("tuple[Tensor | None, ...]", torch.autograd.grad(loss, list(one.values()), allow_unused=True))
        for name in [name for name, gradient in zip(one, found, strict=True) if gradient is None]:
            self.rest[name] = self.params.pop(name)

    def _keeps_statistics(self) -> bool:
        """Whether the model notes something of each batch, as the running means of batch normalisation are."""
        return any(True for _ in self.model.buffers())

    def _make_sure(self, rows: Numbers, sizes: Numbers) -> None:
        """Fill short batches up only if the model does not look from one row of a batch at another."""
        self.is_sure = True
        place = int(sizes.argmin())
        one = {name: stirred(tensor[place]) for name, tensor in {**self.params, **self.rest}.items()}
        inputs = tuple(column[torch.from_numpy(rows[place])] for column in self.columns[:-1])
        call = partial(functional_call, self.model, one)
        self.may_fill = self.may_fill and keeps_rows_apart(call, inputs, int(sizes[place]))

    def _together(self, rows: Numbers, sizes: Numbers) -> Iterator[tuple[slice | Tensor, Numbers, Tensor | None]]:
        """(clients, their rows, which of them count), as few as can be computed at once."""
        width = rows.shape[1]
        if (sizes == width).all():
            yield slice(0, len(rows)), rows, None
            return
        if not self.is_sure:
            self._make_sure(rows, sizes)
        if self.may_fill:
            mask = torch.arange(width) < torch.from_numpy(sizes)[:, None]
            yield slice(0, len(rows)), rows, mask.to(self.columns[0].device)
            return
        for size in np.unique(sizes)[::-1]:
            same = np.flatnonzero(sizes == size)
            yield torch.from_numpy(same), rows[same, :size], None

    def _step(self, number: int, chosen: slice | Tensor, picked: Tensor, mask: Tensor | None) -> None:
        # Much faster than to index by a matrix.
        flat = picked.reshape(-1).to(self.columns[0].device)
        *inputs, target = [c.index_select(0, flat).reshape(*picked.shape, *c.shape[1:]) for c in self.columns]
        params = {name: tensor[chosen] for name, tensor in self.params.items()}
        rest = {name: tensor[chosen] for name, tensor in self.rest.items()}
        gradients, losses = self._gradients(params, rest, tuple(inputs), target, mask)
        counts = torch.full((len(losses),), picked.shape[1]) if mask is None else mask.sum(1).cpu()
        with torch.no_grad():
            self._prepare(gradients, params, chosen)
            self.optimizer.step(number, params, gradients, chosen)
            self.loss_sum[chosen] += losses.double().cpu() * counts
            if isinstance(chosen, Tensor):
                # Chosen by number these are copies.
                for mine, part in ((self.params, params), (self.rest, rest)):
                    for name, tensor in part.items():
                        mine[name][chosen] = tensor

    def _gradients(
        self,
        params: dict[str, Tensor],
        rest: dict[str, Tensor],
        inputs: tuple[Tensor, ...],
        target: Tensor,
        mask: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Each client's gradients and mean loss. A client's parameters act on its own loss only, so the gradients of
        the sum of all losses are theirs."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
        losses = self._losses(leaves, rest, inputs, target, mask)
        found = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, found, strict=True)), losses.detach()

    def _losses(
        self,
        params: dict[str, Tensor],
        rest: dict[str, Tensor],
        inputs: tuple[Tensor, ...],
        target: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        model, loss = self.model, self.recipe.loss

        def output(params: Any, rest: Any, inputs: Any) -> Any:
            return functional_call(model, {**params, **rest}, inputs)

        def one(params: Any, rest: Any, inputs: Any, target: Any) -> Tensor:
            return loss(output(params, rest, inputs), target)

        if self.means is None:
            return vmap(one, randomness="different")(params, rest, inputs, target)
        return self.means(vmap(output, randomness="different")(params, rest, inputs), target, mask)

    def _prepare(self, gradients: dict[str, Tensor], params: dict[str, Tensor], chosen: slice | Tensor) -> None:
        """Clip the raw gradients, then correct them, as the loop does."""
        if self.recipe.clip is not None:
            squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
            norms = torch.stack(squares).sum(0).sqrt()
            factors = (self.recipe.clip / (norms + 1e-6)).clamp(max=1.0)
            for gradient in gradients.values():
                gradient.mul_(factors.reshape(-1, *[1] * (gradient.ndim - 1)))
        for name in gradients if self.rule is not None else ():
            extra = self.extra.get(name)
            # Of each client by itself: a rule may look at a whole array, for its norm.
            rule = vmap(cast("Rule", self.rule), in_dims=(0, 0, 0, None if extra is None else 0))
            start, own = self.origin[name][chosen], None if extra is None else extra[chosen]
            gradients[name] = rule(gradients[name], params[name], start, own)

    def results(self) -> Iterator[Fitted]:
        paths = path_lengths(self.recipe.rates, int(self.order.steps.max()))
        schema, losses = self.members[0].start.schema, self.losses()
        rows = _rows(schema, {**self.params, **self.rest}, len(self.members))
        for count, steps, loss, row in zip(self.examples(), _whole(self.order.steps), losses, rows, strict=True):
            metrics = {} if loss is None else {"loss": loss}
            yield Fitted(Arrays(schema, row[: schema.nbytes]), count, steps, paths[steps], metrics)

    def examples(self) -> list[int]:
        """How many each client has trained on."""
        return _whole(np.minimum(self.seen, self.order.counts))

    def losses(self) -> list[float | None]:
        sums = cast("list[float]", self.loss_sum.tolist())
        return [total / seen if seen else None for total, seen in zip(sums, _whole(self.seen), strict=True)]

    def changes(self) -> NDArray[np.uint8]:
        """A row of bytes for each client: what its arrays have changed by."""
        schema = self.members[0].start.schema.delta
        changed: dict[str, Tensor] = {}
        for name, new in {**self.params, **self.rest}.items():
            if name in schema.by_name:
                whole = schema.by_name[name].dtype == "I64"
                old = self.origin[name]
                changed[name] = new.long() - old.long() if whole else new - old
        return _rows(schema, changed, len(self.members))


def _starts(members: Sequence[Member]) -> list[Mapping[str, Tensor]]:
    """Where each client begins, as tensors; of clients that begin from one model they are one."""
    first = members[0].start
    if all(member.start is first for member in members):
        return [tensors(first)] * len(members)
    return [tensors(member.start) for member in members]


def _stack(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """All clients' values of one array; without a copy where they are one and the same."""
    first = values[0].to(like.device, like.dtype)
    if all(value is values[0] for value in values):
        return first.expand(len(values), *first.shape)
    return torch.stack([value.to(like.device, like.dtype) for value in values])


def _extras(members: Sequence[Member], device: torch.device) -> dict[str, Tensor]:
    """The corrections' own arrays, stacked."""
    given: list[Mapping[str, Tensor]] = []
    for member in members:
        correction: Correction | None = member.correction
        if correction is None or correction.extra is None:
            return {}
        given.append(tensors(correction.extra))
    return {name: torch.stack([extra[name].to(device) for extra in given]) for name in given[0]}


def _rows(schema: Schema, values: Mapping[str, Tensor], count: int) -> NDArray[np.uint8]:
    """One row for each client with its part of each stacked tensor, in the schema's layout."""
    header = len(schema.header)
    memory = blank_rows(schema, count)
    with torch.no_grad():
        for name, start, stop, dtype, _ in schema.places:
            part = memory[:, header + start : header + stop].view(dtype)
            as_tensor(part, schema.by_name[name].dtype).copy_(values[name].reshape(count, -1))
    return memory
