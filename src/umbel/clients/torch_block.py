"""Many `TorchClient`s of one kind trained at once: each step is one batched computation over their stacked models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap  # pyright: ignore[reportPrivateImportUsage]

from umbel.arrays import Arrays
from umbel.block import Member
from umbel.clients.torch_arrays import as_tensor, tensors
from umbel.clients.torch_masked import Masked, keeps_rows_apart, masked
from umbel.clients.torch_stacked import Rates, Stacked, path_lengths, stacked_optimizer
from umbel.local import Correction
from umbel.local_client import Fitted
from umbel.schema import Schema

ROW_BYTES = 64


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


@final
@dataclass(frozen=True)
class Work:
    """One client's share: its examples and the order in which it goes through them.

    Attributes:
        columns: tensors of equal length, the target last.
        batches: the rows of each step.
    """

    columns: tuple[Tensor, ...]
    batches: Sequence[Tensor]


def train_block(recipe: Recipe, members: Sequence[Member], works: Sequence[Work]) -> list[Fitted]:
    """Train the clients of a block side by side.

    They are sorted by their number of steps; at each step those that still have one are a prefix of the stacked
    tensors, so that nobody computes for nothing.

    Args:
        members: start, context and correction of each client.
        works: theirs, in the same order.
    """
    order = sorted(range(len(works)), key=lambda at: -len(works[at].batches))
    block = _Block(recipe, [members[at] for at in order], [works[at] for at in order])
    block.train()
    fitted: list[Fitted | None] = [None] * len(works)
    for at, result in zip(order, block.results(), strict=True):
        fitted[at] = result
    return cast("list[Fitted]", fitted)


@final
class _Block:
    """The stacked models of clients that are sorted by their number of steps, most first."""

    def __init__(self, recipe: Recipe, members: Sequence[Member], works: Sequence[Work]) -> None:
        self.recipe, self.members, self.works = recipe, members, works
        self.model = recipe.model
        starts = [tensors(member.start) for member in members]
        own = {name: value for name, value in self.model.state_dict(keep_vars=True).items() if name in starts[0]}
        device = next(iter(own.values())).device
        trained = {name for name, param in self.model.named_parameters() if param.requires_grad}
        whole = {name: _stack([start[name] for start in starts], own[name]) for name in own}
        self.origin = {name: whole[name] for name in trained}
        self.params = {name: whole[name].clone() for name in own if name in trained}
        self.rest = {name: whole[name].clone() for name in own if name not in trained}
        self.extra = _extras(members, device)
        self.rule = members[0].correction and members[0].correction.rule
        self.optimizer: Stacked = stacked_optimizer(recipe.rates, self.params)
        parts = [work.columns for work in works]
        self.columns = [torch.cat(column).to(device) for column in zip(*parts, strict=True)]
        self.first = np.cumsum([0, *(len(work.columns[0]) for work in works[:-1])])
        self.masked: Masked | None = None if self._keeps_statistics() else masked(recipe.loss)
        self.is_sure = False
        self.loss_sum = torch.zeros(len(works), dtype=torch.float64)
        self.seen = [0] * len(works)

    def train(self) -> None:
        for number in range(len(self.works[0].batches)):
            rows = [work.batches[number] for work in self.works if len(work.batches) > number]
            for chosen, picked, mask in self._together(rows):
                self._step(number, chosen, picked, mask)
            for place, picked in enumerate(rows):
                self.seen[place] += len(picked)

    def _keeps_statistics(self) -> bool:
        """Whether the model notes something of each batch, as the running means of batch normalisation are."""
        return any(True for _ in self.model.buffers())

    def _make_sure(self, rows: list[Tensor], sizes: list[int]) -> None:
        """Fill short batches up only if the model does not look from one row of a batch at another."""
        self.is_sure = True
        place, longest = sizes.index(min(sizes)), max(sizes)
        picked = torch.cat([rows[place], rows[place][:1].expand(longest - sizes[place])])
        one = {name: tensor[place] for name, tensor in {**self.params, **self.rest}.items()}
        inputs = tuple(column[picked] for column in self.columns[:-1])
        if self.masked is None or not keeps_rows_apart(partial(functional_call, self.model, one), inputs, min(sizes)):
            self.masked = None

    def _together(self, rows: list[Tensor]) -> Iterator[tuple[slice | Tensor, Tensor, Tensor | None]]:
        """(clients, their rows, which of them count), as few as can be computed at once."""
        rows = [picked + int(first) for picked, first in zip(rows, self.first, strict=False)]
        sizes = [len(picked) for picked in rows]
        if min(sizes) != max(sizes) and not self.is_sure:
            self._make_sure(rows, sizes)
        everyone = slice(0, len(rows))
        if min(sizes) == max(sizes):
            yield everyone, torch.stack(rows), None
        elif self.masked is not None:
            # What fills up a short batch are rows of the same client, which do not count.
            counts = torch.tensor(sizes)
            padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
            padded = torch.where(padded < 0, padded[:, :1], padded)
            yield everyone, padded, torch.arange(max(sizes)) < counts[:, None]
        else:
            for size in sorted(set(sizes), reverse=True):
                same = torch.tensor([place for place, found in enumerate(sizes) if found == size])
                yield same, torch.stack([rows[int(place)] for place in same]), None

    def _step(self, number: int, chosen: slice | Tensor, picked: Tensor, mask: Tensor | None) -> None:
        *inputs, target = [column[picked] for column in self.columns]
        params = {name: tensor[chosen] for name, tensor in self.params.items()}
        rest = {name: tensor[chosen] for name, tensor in self.rest.items()}
        gradients, losses = self._gradients(params, rest, tuple(inputs), target, mask)
        counts = torch.full((len(losses),), picked.shape[1]) if mask is None else mask.sum(1)
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
        model, loss, apart = self.model, self.recipe.loss, self.masked

        def of(params: Any, rest: Any, inputs: Any, target: Any, mask: Any) -> Tensor:
            output = functional_call(model, {**params, **rest}, inputs)
            return loss(output, target) if mask is None or apart is None else apart(output, target, mask)

        together = vmap(grad_and_value(of), in_dims=(0, 0, 0, 0, None if mask is None else 0), randomness="different")
        return together(params, rest, inputs, target, mask)

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
            gradients[name] = cast("Tensor", self.rule)(  # type: ignore[operator]
                gradients[name],
                params[name],
                self.origin[name][chosen],
                None if extra is None else extra[chosen],
            )

    def results(self) -> Iterator[Fitted]:
        whole = {**self.params, **self.rest}
        paths = path_lengths(self.recipe.rates, len(self.works[0].batches))
        rows = _rows(self.members[0].start.schema, whole, len(self.members))
        for place, (work, arrays) in enumerate(zip(self.works, rows, strict=True)):
            steps, seen, there = len(work.batches), self.seen[place], len(work.columns[0])
            metrics = {"loss": float(self.loss_sum[place]) / seen} if seen else {}
            yield Fitted(arrays, min(there, seen), steps, paths[steps], metrics)


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


def _rows(schema: Schema, values: Mapping[str, Tensor], count: int) -> Iterator[Arrays]:
    """One row of each stacked tensor as the client's arrays: together they are one piece of memory."""
    header = len(schema.header)
    pitch = -(-schema.nbytes // ROW_BYTES) * ROW_BYTES
    memory = np.empty((count, pitch), np.uint8)
    memory[:, :header] = schema.header_array
    with torch.no_grad():
        for name, start, stop, dtype, _ in schema.places:
            part = memory[:, header + start : header + stop].view(dtype)
            as_tensor(part, schema.by_name[name].dtype).copy_(values[name].reshape(count, -1))
    for row in memory:
        yield Arrays(schema, row[: schema.nbytes])
