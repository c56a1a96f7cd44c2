"""`TorchClient`: a PyTorch model, loss, optimiser and data as a client whose training loop strategies may enter."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, TypeAlias, cast, final

import torch
from torch import Tensor, nn

from umbel.arrays import Arrays, ArraySpec, Role, Schema, difference
from umbel.clients.torch_arrays import as_tensor, code_of, tensors
from umbel.errors import ArraysError, ConfigError
from umbel.local_client import Capability, Correct, Fitted, StepClient
from umbel.message import Context, Evaluation, require

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Metric: TypeAlias = Callable[[Any, Any], Any]


@final
class TorchClient(StepClient):
    """A torch model with its training as a client.

    Args:
        model: the module; `client_fn` may build it anew or hand out one that is shared, it is loaded each turn.
        loss: `(output, target) → mean loss`; None for models that return an object with `.loss` (Hugging Face).
        optimizer: a factory `params → Optimizer` (`lambda p: torch.optim.SGD(p, lr=0.1)`), or an optimiser bound to
            `model`, whose state starts anew each turn.
        train_data: a tuple of tensors or arrays (x, y), a `Dataset`, or any iterable of batches such as a `DataLoader`.
        test_data: what to evaluate on, in the same forms; None leaves evaluation out.
        batch_size: for tuples and datasets.
        epochs: passes over the data per turn.
        max_steps: stop after so many batches; None goes through all epochs.
        shuffle: draw a new order each pass (tuples and datasets).
        scheduler: a factory `optimizer → LR scheduler`, stepped after each optimiser step.
        clip_grad_norm: clip the raw gradient to this norm, before a strategy's correction.
        accumulate: batches per optimiser step.
        amp: a dtype for mixed precision, such as torch.bfloat16; float16 scales the loss.
        step: `(model, batch) → loss`, instead of `loss`, for anything that is not output against target.
        metrics: name → `(output, target) → mean over the batch`; the default is accuracy for class labels.
        device: where to train; None takes the context's.

    Strategies' corrections are applied in place between `backward` and the optimiser's step. Arrays are named as in
    `state_dict`: parameters are `trained` (or `frozen` without gradient), buffers such as batch-norm statistics are
    `averaged`.

    Raises:
        ConfigError: neither `loss` nor `step` fits, or a number is out of range.

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
        require(batch_size >= 1, f"batch_size must be at least 1, got {batch_size}")
        require(accumulate >= 1, f"accumulate must be at least 1, got {accumulate}")
        require(epochs >= 0, f"epochs must be at least 0, got {epochs}")
        self.model = model
        self._loss, self._step_fn, self._metrics = loss, step, metrics
        self._optimizer = optimizer or _plain_sgd
        self._bound = _settings(optimizer)
        self._train, self._test = train_data, test_data
        self._batch_size, self._epochs, self._max_steps, self._shuffle = batch_size, epochs, max_steps, shuffle
        self._scheduler_fn, self._clip, self._accumulate, self._amp = scheduler, clip_grad_norm, accumulate, amp
        self._device = device
        can: set[Capability] = {"inside", "partial"}
        if train_data is not None:
            can.add("fit")
        if test_data is not None:
            can.add("evaluate")
        self.capabilities = frozenset(can)
        self._state = {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
        self._schema: Schema | None = None

    @property
    def schema(self) -> Schema:
        """The model's arrays in the order of `state_dict`, with roles."""
        if self._schema is None:
            with_grad = {n: p.requires_grad for n, p in self.model.named_parameters(remove_duplicate=False)}
            specs: list[ArraySpec] = []
            for name, tensor in self._state.items():
                role: Role = "averaged" if name not in with_grad else "trained" if with_grad[name] else "frozen"
                specs.append(ArraySpec(name, code_of(tensor), tuple(tensor.shape), role))
            self._schema = Schema(specs)
        return self._schema

    @property
    def num_examples(self) -> float | None:
        return _length(self._train)

    @property
    def progress(self) -> tuple[int, float]:
        return self._steps, self._path

    def parameters(self, ctx: Context) -> Arrays:
        return self.dump_state()

    def dump_state(self) -> Arrays:
        result = Arrays.empty(self.schema)
        for spec in self.schema.specs:
            as_tensor(result.views[spec.name], spec.dtype).copy_(self._state[spec.name].detach())
        return result.frozen()

    def load(self, arrays: Arrays) -> None:
        self._load_state(arrays)
        self._settle()
        self.model.train()
        self._start_optimizer()
        self._steps, self._path, self._reach, self._pending = 0, 0.0, 0.0, 0
        self._correct: Correct | None = None

    def _load_state(self, arrays: Arrays) -> None:
        if arrays.keys() != self._state.keys():
            missing = [n for n in self._state if n not in arrays] or [n for n in arrays if n not in self._state]
            raise ArraysError(
                f"the task and the client's model differ in the array {missing[0]!r} (did the model change?)"
            )
        with torch.no_grad():
            for name, source in tensors(arrays).items():
                target = self._state[name]
                if target.shape != source.shape:
                    raise ArraysError(
                        f"array {name!r} has shape {tuple(source.shape)} in the task and {tuple(target.shape)} in the "
                        "client's model"
                    )
                target.copy_(source)

    def _settle(self) -> None:
        device = self._device if self._device is not None else "cpu"
        self.device = torch.device(device)
        if next(iter(self._state.values())).device != self.device:
            self.model.to(self.device)
            self._state = {k: v for k, v in self.model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}

    def _start_optimizer(self) -> None:
        self._trainable = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        if isinstance(self._optimizer, torch.optim.Optimizer):
            self.optimizer = self._optimizer
            self.optimizer.state.clear()
            for group, settings in zip(self.optimizer.param_groups, self._bound, strict=True):
                group.update(copy.deepcopy(settings))
        else:
            self.optimizer = self._optimizer(p for _, p in self._trainable)
        self.optimizer.zero_grad(set_to_none=True)
        self._scheduler = None if self._scheduler_fn is None else self._scheduler_fn(self.optimizer)
        self._scaler = _scaler(self.device) if self._amp is torch.float16 else None

    def native(self, arrays: Arrays) -> Mapping[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tensors(arrays).items()}

    def batches(self, ctx: Context) -> Iterator[Any]:
        given = 0
        for _ in range(self._epochs):
            for batch in self._pass(self._train, self._shuffle):
                if self._max_steps is not None and given >= self._max_steps:
                    return
                given += 1
                yield batch

    def _pass(self, data: Any, shuffle: bool) -> Iterator[Any]:
        """One pass over `data`, in batches."""
        parts = _tuple_of_tensors(data)
        if parts is not None:
            count = len(parts[0])
            order = torch.randperm(count) if shuffle else None
            for start in range(0, count, self._batch_size):
                stop = start + self._batch_size
                yield tuple(p[start:stop] if order is None else p[order[start:stop]] for p in parts)
            return
        if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, list):
            data = torch.utils.data.DataLoader(data, batch_size=self._batch_size, shuffle=shuffle)
        yield from data

    def step(self, batch: Any, correct: Correct | None) -> tuple[float, float]:
        batch = _to(batch, self.device)
        loss = self._forward(batch)[0]
        scaled = loss / self._accumulate if self._accumulate > 1 else loss
        (scaled if self._scaler is None else self._scaler.scale(scaled)).backward()
        self._correct = correct
        self._pending += 1
        if self._pending == self._accumulate:
            self._apply()
        return loss.item(), _examples(batch)

    def _forward(self, batch: Any) -> tuple[Tensor, Any, Any]:
        """(loss, output, target) of one batch; output and target are None for a step function."""
        cast_to = nullcontext() if self._amp is None else torch.autocast(self.device.type, self._amp)
        with cast_to:
            if self._step_fn is not None:
                return self._step_fn(self.model, batch), None, None
            if self._loss is None:
                output = self.model(**batch) if isinstance(batch, Mapping) else self.model(*batch)
                return output.loss, output, None
            inputs, target = batch
            output = self.model(inputs)
            return self._loss(output, target), output, target

    def _apply(self) -> None:
        """Clip, correct, step: what stands between `backward` and the next batch."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        if self._clip is not None:
            nn.utils.clip_grad_norm_([p for _, p in self._trainable], self._clip)
        if self._correct is not None:
            with torch.no_grad():
                for name, param in self._trainable:
                    if param.grad is not None:
                        param.grad.copy_(self._correct(name, param.grad, param))
        self._measure_path()
        if self._scaler is not None:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        else:
            self.optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._steps += 1
        self._pending = 0

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
        return self.dump_state()

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        raise AssertionError("an open client is trained by umbel.local.run_steps")

    def gradient(self, start: Arrays, ctx: Context) -> Fitted:
        self.load(start)
        loss_sum = count = 0.0
        for batch in self._pass(self._train, shuffle=False):
            batch = _to(batch, self.device)
            loss, examples = self._forward(batch)[0], _examples(batch)
            (loss * examples).backward()
            loss_sum, count = loss_sum + loss.item() * examples, count + examples
        after = difference(self.dump_state(), start).copy()
        for name, param in self._trainable if count else ():
            if param.grad is not None and name in after:
                as_tensor(after.views[name], after.schema.by_name[name].dtype).copy_(param.grad / -count)
        self.optimizer.zero_grad(set_to_none=True)
        return Fitted(after.frozen(), count, 1, 1.0, {"loss": loss_sum / count} if count else {}, is_delta=True)

    def loss(self, start: Arrays, ctx: Context) -> float:
        return self._assess(self._train, start)[0]

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        loss, examples, metrics = self._assess(self._test, model)
        return Evaluation(loss, examples, metrics)

    def _assess(self, data: Any, arrays: Arrays) -> tuple[float, float, dict[str, float]]:
        self._load_state(arrays)
        self._settle()
        self.model.eval()
        sums: dict[str, float] = {}
        count = 0.0
        with torch.no_grad():
            for batch in self._pass(data, shuffle=False):
                batch = _to(batch, self.device)
                loss, output, target = self._forward(batch)
                examples = _examples(batch)
                values = {"loss": loss, **self._measure(output, target)}
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * examples
                count += examples
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


def _plain_sgd(params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.01)


def _settings(optimizer: object) -> list[dict[str, Any]]:
    """An optimiser's hyper-parameters as they were given, so that each turn starts from them."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return []
    return [copy.deepcopy({k: v for k, v in g.items() if k != "params"}) for g in optimizer.param_groups]


def _scaler(device: torch.device) -> Any:
    return torch.amp.GradScaler(device.type)  # pyright: ignore[reportPrivateImportUsage]


def _tuple_of_tensors(data: Any) -> tuple[Tensor, ...] | None:
    if not isinstance(data, tuple) or not data:
        return None
    parts = cast("tuple[Any, ...]", data)
    if not all(hasattr(part, "shape") for part in parts):
        return None
    return tuple(part if isinstance(part, Tensor) else torch.as_tensor(part) for part in parts)


def _length(data: Any) -> float | None:
    parts = _tuple_of_tensors(data)
    if parts is not None:
        return len(parts[0])
    source = getattr(data, "dataset", data)
    try:
        return len(source) if not isinstance(data, list) else None
    except TypeError:
        return None


def _examples(batch: Any) -> int:
    """How many examples a batch has: the length of its first tensor."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts: Iterable[Any] = cast("Mapping[str, Any]", batch).values() if isinstance(batch, Mapping) else batch
    return next((len(part) for part in parts if isinstance(part, Tensor) and part.ndim), 1)


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in cast("Mapping[str, Any]", batch).items()}
    if isinstance(batch, (list, tuple)):
        return tuple(_to(item, device) for item in cast("list[Any]", batch))
    return batch
