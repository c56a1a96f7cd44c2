"""`TorchClient`: a PyTorch model, loss, optimiser and data as a client whose training loop strategies may enter."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias, cast, final

import torch
from torch import Tensor, nn

from umbel.arrays import Arrays, difference
from umbel.block import Assessed, BlockClient, Descent, Member, Trained
from umbel.clients.alone import one_by_one
from umbel.clients.arguments import check_clip, check_passes
from umbel.clients.order import Numbers, Order, Passes, turn_steps
from umbel.clients.torch.arguments import check_arguments, check_functions, device_name
from umbel.clients.torch.arrays import as_tensor, copy_all, is_on, schema_of, state_of, tensors
from umbel.clients.torch.assess import assess, gradient_of
from umbel.clients.torch.block import Recipe, train_block, train_rows
from umbel.clients.torch.calling import called, loss_of
from umbel.clients.torch.data import (
    batches_of,
    examples,
    joined,
    length,
    on_device,
    one_example,
    one_pass,
    prepared,
    reseed,
    rows_of,
    shuffler,
)
from umbel.clients.torch.footprint import measured
from umbel.clients.torch.kind import fixed, kind
from umbel.clients.torch.masked import by_row
from umbel.clients.torch.optimizer import (
    OptimizerFactory,
    check_bound,
    copy_without_memory,
    descend,
    plain_rate,
    plain_sgd,
    scaler,
    without_compiler,
)
from umbel.clients.torch.stacked import Rates, rates_of
from umbel.errors import ArraysError, ConfigError, NotSupported
from umbel.footprint import Footprint
from umbel.local import Correction
from umbel.local_client import Capability, Combine, Correct, Fitted
from umbel.message import Context, Evaluation
from umbel.schema import Schema

Metric: TypeAlias = Callable[[Any, Any], Any]


@final
class TorchClient(BlockClient):
    """A torch model with its training as a client.

    Args:
        model: the module; `client_fn` may build it anew or hand out one that is shared. It is lent for a turn and has
            its own values back afterwards.
        loss: `(output, target) → mean loss` for batches of inputs and a target; None for models that return an object
            or mapping with `loss` (Hugging Face).
        optimizer: a factory `params → Optimizer` (`lambda p: torch.optim.SGD(p, lr=0.1)`), or an optimiser bound to
            `model`, of which each turn uses a copy that remembers nothing.
        train_data: a tuple (x, y) or mapping of tensors or arrays, a `Dataset`, or batches: a `DataLoader` or any other
            iterable that can be gone through again. A loader's own generator is seeded anew each turn.
        test_data: what to evaluate on, in the same forms; None leaves evaluation out.
        batch_size: for arrays and data sets.
        epochs: passes over the data per turn, at least 0.
        max_steps: stop after so many batches; None goes through all epochs.
        shuffle: draw a new order each pass (arrays and data sets).
        scheduler: a factory `optimizer → LR scheduler`, stepped after each optimiser step.
        clip_grad_norm: clip the raw gradient to this norm, before a strategy's correction.
        accumulate: batches per optimiser step, which takes the mean of their gradients. What is left over at the end
            of a turn makes a last step.
        amp: a dtype for mixed precision, such as torch.bfloat16; float16 scales the loss.
        step: `(model, batch) → loss`, instead of `loss`, for anything that is not output against target.
        metrics: name → `(output, target) → mean over the batch`; the default is accuracy for class labels. A model that
            returns its own loss has the batch in the target's place.
        device: where to train; None takes the context's.

    Strategies' corrections are applied in place between `backward` and the optimiser's step. Arrays are named as in
    `state_dict`: parameters are `trained` (or `frozen` without gradient), buffers such as batch-norm statistics are
    `averaged`.

    Raises:
        ConfigError: arguments exclude each other, a number is out of range, data cannot be gone through again, or the
            optimiser is not bound to `model`.

    Example:
        >>> x, y = torch.zeros(8, 3), torch.zeros(8, dtype=torch.long)
        >>> client = TorchClient(nn.Linear(3, 2), nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, lr=0.1), (x, y))
        >>> client.num_examples
        8
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor] | None = None,
        optimizer: OptimizerFactory | torch.optim.Optimizer | None = None,
        train_data: Any = None,
        *,
        test_data: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        max_steps: int | None = None,
        shuffle: bool = True,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        clip_grad_norm: float | None = None,
        accumulate: int = 1,
        amp: torch.dtype | None = None,
        step: Callable[[nn.Module, Any], Tensor] | None = None,
        metrics: Mapping[str, Metric] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if loss is not None and step is not None:
            raise ConfigError("give loss or step, not both: step(model, batch) returns the loss itself")
        if metrics is not None and step is not None:
            raise ConfigError("metrics look at the output, which step(model, batch) does not give; drop one of the two")
        check_passes(batch_size=batch_size, epochs=epochs, shuffle=shuffle, max_steps=max_steps)
        check_clip(clip_grad_norm)
        check_functions(loss=loss, step=step, scheduler=scheduler)
        check_arguments(model=model, optimizer=optimizer, metrics=metrics, accumulate=accumulate, amp=amp)
        self.model = model
        self._loss, self._step_fn, self._metrics = loss, step, metrics
        self._optimizer = optimizer or plain_sgd
        self._train = prepared("train_data", train_data, batch_size)
        self._test = prepared("test_data", test_data, batch_size)
        self._batch_size, self._epochs, self._max_steps, self._shuffle = batch_size, epochs, max_steps, shuffle
        self._scheduler_fn, self._clip, self._accumulate, self._amp = scheduler, clip_grad_norm, accumulate, amp
        self._device, self.own_device = device, device_name(device)
        can: set[Capability] = {"inside", "partial"}
        if train_data is not None:
            can.add("fit")
        if test_data is not None:
            can.add("evaluate")
        self.capabilities = frozenset(can)
        self._state: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] = {}
        self._trainable: list[tuple[str, nn.Parameter]] = []
        self._counted: int | None = None
        self._schema: Schema | None = None

    @property
    def schema(self) -> Schema:
        """The model's arrays in the order of `state_dict`, with roles."""
        if self._schema is None:
            self._state = self._state or state_of(self.model)
            with_grad = {n: p.requires_grad for n, p in self.model.named_parameters(remove_duplicate=False)}
            self._schema = schema_of(tuple((n, t.dtype, t.shape, with_grad.get(n)) for n, t in self._state.items()))
        return self._schema

    @property
    def num_examples(self) -> float | None:
        return length(self._train) if self._counted is None else self._counted

    @property
    def turn_steps(self) -> int | None:
        return turn_steps(batches_of(self._train, self._batch_size), self._epochs, self._max_steps)

    @property
    def progress(self) -> tuple[int, float]:
        return self._steps, self._path

    def footprint(self) -> Footprint | None:
        """Bytes that a turn takes on its device: arrays by size, activations by one step of a copy on `meta`.

        None where that step fails, or without training data.
        """
        if self._train is None:
            return None
        return measured(
            self.model, self._loss_on, self._optimizer, one_pass(self._train, self._batch_size, shuffle=False)
        )

    def _loss_on(self, model: nn.Module, batch: Any, device: torch.device) -> Tensor:
        """The loss as it would be of another model, elsewhere."""
        stand_in = copy.copy(self)
        stand_in.model, stand_in.device = model, device
        return stand_in._forward(batch)[0]

    def parameters(self, ctx: Context) -> Arrays:
        self._state = state_of(self.model)
        return self._present(self.schema)

    def _present(self, schema: Schema) -> Arrays:
        """The model's arrays as they are now, in the dtypes of `schema`."""
        result = Arrays.empty(schema)
        places = [as_tensor(result.views[spec.name], spec.dtype) for spec in schema.specs]
        copy_all(places, [self._state[spec.name] for spec in schema.specs])
        return result.frozen()

    def load(self, arrays: Arrays, ctx: Context) -> None:
        self._borrow(arrays, ctx)
        self.model.train()
        self._trainable = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        self._start_optimizer()
        self._steps, self._path, self._reach, self._pending = 0, 0.0, 0.0, 0
        self._correct: Correct | None = None
        self._counted = None
        reseed(self._train)

    def _borrow(self, arrays: Arrays, ctx: Context) -> None:
        """Put the model on its device and `arrays` into it, after putting its own values by."""
        self._settle(ctx)
        self._check(arrays.schema)
        self._loaded = arrays.schema
        frozen = {spec.name for spec in self.schema.specs if spec.role == "frozen"}
        self._own = {name: value.detach().clone() for name, value in self._state.items() if name not in frozen}
        given = tensors(arrays)
        copy_all([self._state[name] for name in given], list(given.values()))

    def release(self) -> None:
        # A model may be shared by all clients of a process. What one client's training leaves in it must reach neither
        # the next client, whose own head it would become, nor the user's next run.
        copy_all([self._state[name] for name in self._own], list(self._own.values()))
        self._own = {}
        self._drop_gradients()

    def _drop_gradients(self) -> None:
        for _, param in self._trainable:
            param.grad = None

    def _check(self, given: Schema) -> None:
        names = given.by_name
        if names.keys() != self._state.keys():
            missing = [n for n in self._state if n not in names] or [n for n in names if n not in self._state]
            raise ArraysError(
                f"the task and the client's model differ in the array {missing[0]!r} (did the model change?)"
            )
        for spec in given.specs:
            shape = tuple(self._state[spec.name].shape)
            if spec.shape != shape:
                raise ArraysError(
                    f"array {spec.name!r} has shape {spec.shape} in the task and {shape} in the client's model"
                )

    def _settle(self, ctx: Context) -> None:
        self.device = torch.device(ctx.device if self._device is None else self._device)
        # Read anew: where a model moves, its buffers become other tensors.
        self._state = state_of(self.model)
        if not all(is_on(tensor.device, self.device) for tensor in self._state.values()):
            self.model.to(self.device)
            self._state = state_of(self.model)

    def _start_optimizer(self) -> None:
        if isinstance(self._optimizer, torch.optim.Optimizer):
            self.optimizer = copy_without_memory(self._optimizer)
        else:
            with without_compiler():
                self.optimizer = self._optimizer([p for _, p in self._trainable])
        check_bound(self.optimizer, self.model)
        self._drop_gradients()
        self._scheduler = None if self._scheduler_fn is None else self._scheduler_fn(self.optimizer)
        self._scaler = scaler(self.device) if self._amp is torch.float16 else None
        self._plain = None if self._scheduler is not None else plain_rate(self.optimizer)

    def native(self, arrays: Arrays) -> Mapping[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tensors(arrays).items()}

    def batches(self, ctx: Context) -> Iterator[Any]:
        given = 0
        for number in range(self._epochs):
            seen = 0
            for batch in one_pass(self._train, self._batch_size, shuffle=self._shuffle):
                if self._max_steps is not None and given >= self._max_steps:
                    return
                given += 1
                seen += examples(batch)
                yield batch
            if number == 0:
                # A loader may leave examples out, and of other iterables only a pass can tell.
                self._counted = seen

    def step(self, batch: Any, correct: Correct | None) -> tuple[float, float]:
        batch = on_device(batch, self.device)
        loss = self._forward(batch)[0]
        scaled = loss / self._accumulate if self._accumulate > 1 else loss
        (scaled if self._scaler is None else self._scaler.scale(scaled)).backward()
        self._correct = correct
        self._pending += 1
        if self._pending == self._accumulate:
            self._apply()
        return loss.item(), examples(batch)

    def _forward(self, batch: Any) -> tuple[Tensor, Any, Any]:
        """(loss, output, target) of one batch; output and target are None for a step function."""
        cast_to = nullcontext() if self._amp is None else torch.autocast(self.device.type, self._amp)
        with cast_to:
            if self._step_fn is not None:
                return self._step_fn(self.model, batch), None, None
            if self._loss is None:
                output = called(self.model, batch)
                return loss_of(output), output, batch
            if not isinstance(batch, tuple):
                raise ConfigError(
                    f"loss is for batches of inputs and a target, the data gave a {type(batch).__name__}; give "
                    "step=lambda model, batch: ..., or leave loss out if the model returns its own"
                )
            *inputs, target = cast("tuple[Any, ...]", batch)
            output = self.model(*inputs)
            return self._loss(output, target), output, target

    def _apply(self) -> None:
        """Clip, correct, step: what stands between `backward` and the next batch."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        self._prepare_gradients()
        self._measure_path()
        if self._scaler is not None:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        elif self._plain is not None:
            descend(self.optimizer.param_groups[0]["params"], self._plain)
        else:
            self.optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        self._drop_gradients()
        self._steps += 1
        self._pending = 0

    def _prepare_gradients(self) -> None:
        """What is done to gradients before the step: a left-over mean, clipping, the strategy's correction."""
        if self._pending == self._accumulate and self._clip is None and self._correct is None:
            return
        gradients = [(name, param, param.grad) for name, param in self._trainable if param.grad is not None]
        if self._pending < self._accumulate:
            for _, _, grad in gradients:
                grad.mul_(self._accumulate / self._pending)
        if self._clip is not None:
            nn.utils.clip_grad_norm_([param for _, param, _ in gradients], self._clip)
        if self._correct is not None:
            with torch.no_grad():
                for name, param, grad in gradients:
                    grad.copy_(self._correct(name, grad, param))

    def _measure_path(self) -> None:
        """Add this step's size; with momentum a gradient goes on acting, as torch's SGD has it."""
        group = self.optimizer.param_groups[0]
        momentum = float(group.get("momentum", 0.0) or 0.0)
        fresh = 1.0 if self._steps == 0 else 1.0 - float(group.get("dampening", 0.0) or 0.0)
        self._reach = momentum * self._reach + fresh
        reach = 1.0 + momentum * self._reach if group.get("nesterov") else self._reach
        self._path += float(group["lr"]) * (reach if momentum else 1.0)

    def dump(self) -> Arrays:
        if self._pending:
            self._apply()
        return self._present(self._loaded)

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        raise AssertionError("an open client is trained by umbel.local.run_steps")

    def block_kind(self, ctx: Context) -> Hashable:
        for is_so, reason in (
            (self._step_fn is not None, "it has a step function of its own"),
            (self._loss is None, "its model computes the loss itself"),
            (self._scheduler_fn is not None, "it has a scheduler"),
            (self._accumulate > 1, "it accumulates gradients"),
            (self._amp is not None, "it trains in mixed precision"),
            (not isinstance(self._train, tuple), "its training data are not a tuple of arrays"),
        ):
            if is_so:
                raise NotSupported(reason)
        self._settle(ctx)
        self._rates = self._settled_rates()
        self._looks = self._look()
        columns = tuple((column.dtype, column.shape[1:]) for column in self._train)
        return (self._looks, self._rates, self.schema, self.device, self._clip, columns)

    def _look(self) -> Hashable:
        """What model and loss are at the moment, but for the values of parameters."""
        trained = tuple(param.requires_grad for param in self.model.parameters())
        return (kind(self.model), trained, kind(self._loss), fixed(self._loss))

    def _settled_rates(self) -> Rates:
        """What the optimiser does.

        Raises:
            NotSupported: blocks cannot do that.
        """
        named = dict(self.model.named_parameters(remove_duplicate=False))
        if len({id(param) for param in named.values()}) < len(named):
            raise NotSupported("its model ties parameters to each other")
        self._trainable = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        self._start_optimizer()
        return rates_of(self.optimizer, len(self._trainable))

    @classmethod
    def train_block(cls, members: Sequence[Member], *, most_steps: int | None = None) -> list[Fitted]:
        clients = [cast("TorchClient", member.client) for member in members]
        first = clients[0]
        assert first._loss is not None
        if first._look() != first._looks:
            raise NotSupported("clients share a model or a loss that each sets to something else when it is built")
        first._settle(members[0].ctx)
        for schema in {member.start.schema: None for member in members}:
            first._check(schema)
        first.model.train()
        lots, columns = joined([client._train for client in clients])
        keys, passes = [member.ctx.key for member in members], [client._passes(most_steps) for client in clients]
        torch.default_generator.manual_seed(keys[0] & (2**63 - 1))  # for what the model draws itself
        recipe = Recipe(first.model, first._loss, first._rates, first._clip)
        return train_block(recipe, members, columns, Order.drawn(lots, keys, passes, shuffler()))

    def _passes(self, most_steps: int | None = None) -> Passes:
        most = min((steps for steps in (self._max_steps, most_steps) if steps is not None), default=None)
        return Passes(self._batch_size, self._epochs, most, self._shuffle)

    def train_rows(
        self,
        start: Arrays,
        ctx: Context,
        columns: tuple[Tensor, ...],
        lots: Sequence[Numbers],
        keys: Sequence[int],
        correction: Correction | None,
    ) -> Trained:
        """Train clients that differ from this one in nothing but their rows of `columns`.

        Args:
            start, correction: for all of them.
            ctx: the first one's.
            lots: each one's rows.
            keys: the roots of their randomness.

        Raises:
            NotSupported: blocks cannot do that.
        """
        self.block_kind(ctx)
        assert self._loss is not None
        self._settle(ctx)
        self._check(start.schema)
        self.model.train()
        torch.default_generator.manual_seed(ctx.key & (2**63 - 1))  # for what the model draws itself
        recipe = Recipe(self.model, self._loss, self._rates, self._clip)
        order = Order.drawn(lots, keys, [self._passes()] * len(lots), shuffler())
        return train_rows(recipe, [Member(self, start, ctx, correction)] * len(lots), columns, order)

    def evaluate_rows(
        self, model: Arrays, ctx: Context, columns: tuple[Tensor, ...], lots: Sequence[Numbers]
    ) -> Assessed:
        """Evaluate `model` for clients that differ from this one in nothing but their rows of `columns`.

        Args:
            lots: each one's rows.

        Raises:
            NotSupported: they have to evaluate one by one.
        """
        rows = None if self._loss is None or self._amp is not None else by_row(self._loss)
        if rows is None or self._metrics is not None:
            raise NotSupported("its loss or its metrics are not torch's own")
        try:
            self._borrow(model, ctx)
            self.model.eval()
            return assess(self.model, rows, columns, lots, self.device, self._batch_size)
        finally:
            self.release()

    def gradient_rows(
        self, start: Arrays, ctx: Context, columns: tuple[Tensor, ...], lots: Sequence[Numbers], *, uniform: bool
    ) -> Descent:
        """One gradient for clients that differ from this one in nothing but their rows of `columns`.

        Args:
            lots: each one's rows.
            uniform: each client weighs the same; else each row does.

        Raises:
            NotSupported: each has to give its own.
        """
        rows = None if self._loss is None or self._amp is not None else by_row(self._loss)
        if rows is None:
            raise NotSupported("its loss is none of torch's own")
        try:
            self.load(start, ctx)
            losses = gradient_of(self.model, rows, columns, lots, self.device, self._batch_size, uniform=uniform)
            change = self._downhill(start, 1.0)
        finally:
            self.release()
        counts = [float(len(lot)) for lot in lots]
        return Descent(change, counts, [loss if count else None for loss, count in zip(losses, counts, strict=True)])

    def gradient(self, start: Arrays, ctx: Context) -> Fitted:
        try:
            self.load(start, ctx)
            loss_sum, count = self._backward_all()
            change = self._downhill(start, count)
        finally:
            self.release()
        return Fitted(change, count, 1, 1.0, {"loss": loss_sum / count} if count else {}, is_delta=True)

    def _downhill(self, start: Arrays, count: float) -> Arrays:
        """The gradients that lie at the parameters, over -count, as a change; of the other arrays what they became."""
        change = difference(self._present(self._loaded), start).copy()
        for name, tensor in self._state.items() if count else ():
            # By the names of all arrays: tied weights have two names and one gradient.
            if tensor.requires_grad and tensor.grad is not None and name in change:
                dtype = change.schema.by_name[name].dtype
                as_tensor(change.views[name], dtype).copy_(tensor.grad / -count)
        return change.frozen()

    def _backward_all(self) -> tuple[float, float]:
        """Gradients of the summed loss over all data; returns (that sum, examples)."""
        loss_sum = count = 0.0
        for batch in one_pass(self._train, self._batch_size, shuffle=False):
            batch = on_device(batch, self.device)
            loss, size = self._forward(batch)[0], examples(batch)
            (loss * size).backward()
            loss_sum, count = loss_sum + loss.item() * size, count + size
        return loss_sum, count

    def example_gradients(self, start: Arrays, ctx: Context) -> Iterator[Arrays]:
        try:
            self.load(start, ctx)
            yield from self._gradients_of(rows_of(self._train), -1.0)
        finally:
            self.release()

    def step_by_example(self, rows: Sequence[int], combine: Combine, correct: Correct | None) -> None:
        rows_of(self._train)
        if self._scaler is not None:
            raise NotSupported(
                "amp=torch.float16 scales the loss of a batch; use torch.bfloat16 with DP-SGD, or no amp"
            )
        combined = combine(self._gradients_of(rows, 1.0))
        self._drop_gradients()  # of the last example, in what is not combined
        for name, value in self.native(combined).items():
            self._state[name].grad = value.clone()
        self._correct, self._pending = correct, self._accumulate
        self._apply()

    def _gradients_of(self, rows: Sequence[int], sign: float) -> Iterator[Arrays]:
        """The gradient of each example's own loss at what is loaded, times `sign`: none shares a batch with another."""

        def of_row(row: int, result: Arrays) -> None:
            self._drop_gradients()
            self._forward(on_device(one_example(self._train, row), self.device))[0].backward()
            for name, tensor in self._state.items():
                if tensor.requires_grad and tensor.grad is not None and name in result:
                    place = as_tensor(result.views[name], result.schema.by_name[name].dtype)
                    place.copy_(tensor.grad if sign == 1 else tensor.grad * sign)

        return one_by_one(rows, self._loaded.delta, of_row)

    def example_losses(self, model: Arrays, ctx: Context, *, held_out: bool = False) -> Iterator[float]:
        data = self._test if held_out else self._train
        for batch in one_pass([] if data is None else data, 1, shuffle=False):
            yield self._assess([batch], model, ctx)[0]

    def loss(self, start: Arrays, ctx: Context) -> float:
        return self._assess(self._train, start, ctx)[0]

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        loss, count, metrics = self._assess(self._test, model, ctx)
        return Evaluation(loss, count, metrics)

    def _assess(self, data: Any, arrays: Arrays, ctx: Context) -> tuple[float, float, dict[str, float]]:
        sums: dict[str, float] = {}
        count = 0.0
        try:
            self._borrow(arrays, ctx)
            self.model.eval()
            reseed(data)
            with torch.no_grad():
                for batch in one_pass(data, self._batch_size, shuffle=False):
                    batch = on_device(batch, self.device)
                    loss, output, target = self._forward(batch)
                    size = examples(batch)
                    for name, value in {"loss": loss, **self._measure(output, target)}.items():
                        sums[name] = sums.get(name, 0.0) + float(value) * size
                    count += size
        finally:
            self.release()
        means = {name: total / count for name, total in sums.items()} if count else {"loss": 0.0}
        return means.pop("loss"), count, means

    def _measure(self, output: Any, target: Any) -> dict[str, Any]:
        if output is None or target is None:
            return {}
        if self._metrics is not None:
            return {name: metric(output, target) for name, metric in self._metrics.items()}
        labels = isinstance(target, Tensor) and not target.is_floating_point()
        if labels and isinstance(output, Tensor) and output.ndim == target.ndim + 1:
            return {"accuracy": (output.argmax(1) == target).float().mean()}
        return {}
