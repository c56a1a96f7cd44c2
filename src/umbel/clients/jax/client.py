"""`JaxClient`: a loss over a pytree of JAX arrays, optimiser and data as a client whose training loop strategies may
enter."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence, Sized
from typing import Any, cast, final

import jax
import numpy as np

from umbel.arrays import Arrays
from umbel.block import BlockClient, Member
from umbel.clients.arguments import check_clip, check_metrics, check_momentum, check_passes, check_rate
from umbel.clients.jax.block import Steps, train_block
from umbel.clients.jax.data import Shuffle, is_columns, length, one_pass, prepared
from umbel.clients.jax.device import place_of, placed
from umbel.clients.jax.footprint import measured
from umbel.clients.jax.step import Compiled, Loss, Metric, Recipe, Sgd, compiled, key_of, path_length
from umbel.clients.jax.tree import Leaves, Tree, filled, host, leaves
from umbel.clients.order import Numbers, Order, Passes, turn_steps
from umbel.errors import ConfigError, NotSupported
from umbel.footprint import Footprint
from umbel.local_client import Capability, Correct, Fitted
from umbel.message import Context, Evaluation, require
from umbel.randomness import derive, generator


@final
class JaxClient(BlockClient):
    """A JAX model, given as a loss over a pytree of parameters, with its training as a client.

    Args:
        loss: `(params, batch) → mean loss` over the batch; a pure function that `jax.jit` can compile. With a parameter
            named `key` it is called as `loss(params, batch, key=key)`: in training with a JAX key of its own for each
            step, in evaluation with None, where nothing (such as dropout) should be drawn.
        params: the initial parameters, any pytree of arrays: nested dicts, lists, Flax's variables, the arrays of an
            Equinox module. Arrays are named by their path, as in "dense/kernel".
        train_data: arrays with a row for each example, as a tuple, a mapping or one array, of which a batch has some
            rows; or batches that can be gone through again, such as a list of them. None leaves training out.
        test_data: what to evaluate on, in the same forms; None leaves evaluation out.
        optimizer: an optax `GradientTransformation`, or anything with its `init` and `update`; it remembers nothing
            from turn to turn. None is plain SGD.
        lr: learning rate of plain SGD, above 0; None takes 0.1. Beside an `optimizer` it is the size of its steps as
            strategies that ask for it see them (SCAFFOLD, FedNova); it does not change the training.
        momentum: of plain SGD, from 0 to below 1.
        batch_size: for whole arrays.
        epochs: passes over the data per turn, at least 0.
        max_steps: stop after so many batches; None goes through all epochs.
        shuffle: draw a new order each pass (whole arrays).
        clip_grad_norm: clip the raw gradient to this norm, before a strategy's correction.
        metrics: name → `(params, batch) → mean over the batch`, which `jax.jit` can compile.
        device: where to train, such as "cuda:1"; None takes the context's.

    Leaves of floating point have the role `trained` and keep their dtype, bfloat16 included (float64 becomes float32
    unless JAX has been told to `enable_x64`); integers and bools are `frozen`. A step is compiled once for each shape
    of a batch, also when `client_fn` makes the functions anew for each client, as long as they are made of the same
    code and numbers.

    Raises:
        ConfigError: a number is out of range, a leaf is no array, two have one name, or data are none of these forms.

    Example:
        >>> def loss(params, batch):
        ...     x, y = batch
        ...     return ((x @ params["w"] - y) ** 2).mean()
        >>> x, y = np.ones((8, 3), np.float32), np.ones(8, np.float32)
        >>> client = JaxClient(loss, {"w": np.zeros(3, np.float32)}, (x, y), lr=0.1)
        >>> client.num_examples
        8
    """

    def __init__(
        self,
        loss: Loss,
        params: Any,
        train_data: Any = None,
        *,
        test_data: Any = None,
        optimizer: Any = None,
        lr: float | None = None,
        momentum: float = 0.0,
        batch_size: int = 32,
        epochs: int = 1,
        max_steps: int | None = None,
        shuffle: bool = True,
        clip_grad_norm: float | None = None,
        metrics: Mapping[str, Metric] | None = None,
        device: str | None = None,
    ) -> None:
        require(callable(loss), f"loss must be a function (params, batch) → mean loss, got {loss!r}")
        if lr is not None:
            check_rate(lr)
        check_momentum(momentum)
        check_passes(batch_size=batch_size, epochs=epochs, shuffle=shuffle, max_steps=max_steps)
        check_clip(clip_grad_norm)
        check_metrics(metrics, "(params, batch) → mean")
        require(
            device is None or (isinstance(device, str) and device != ""),  # pyright: ignore[reportUnnecessaryIsInstance]
            f'device must be a name such as "cpu" or "cuda:1", or None, got {device!r}; try device="cpu"',
        )
        self._tree, self._initial = Tree.of(params)
        self._lr = lr or (0.1 if optimizer is None else 0.0)
        self._momentum = momentum
        inner = Sgd(self._lr, momentum) if optimizer is None else _checked(optimizer, momentum)
        self._recipe = Recipe(self._tree, loss, inner, clip_grad_norm, metrics or {})
        self._train, self._test = prepared("train_data", train_data), prepared("test_data", test_data)
        self._batch_size, self._epochs, self._max_steps, self._shuffle = batch_size, epochs, max_steps, shuffle
        can: set[Capability] = {"inside", "partial"}
        if train_data is not None:
            can.add("fit")
        if test_data is not None:
            can.add("evaluate")
        self.capabilities = frozenset(can)
        self._counted: int | None = None
        self._device = self.own_device = device

    @property
    def num_examples(self) -> float | None:
        return length(self._train) if is_columns(self._train) else self._counted

    @property
    def turn_steps(self) -> int | None:
        data = self._train
        known = len(data) if isinstance(data, Sized) else None
        batches = -(-int(length(data)) // self._batch_size) if is_columns(data) else known
        return turn_steps(batches, self._epochs, self._max_steps)

    @property
    def progress(self) -> tuple[int, float]:
        return self._steps, path_length(self._lr, self._momentum, self._steps)

    def parameters(self, ctx: Context) -> Arrays:
        return self._initial

    def footprint(self) -> Footprint | None:
        batch = None if self._train is None else next(one_pass(self._train, self._batch_size, None), None)
        if batch is None:
            return None
        given = host(self._initial)
        trained = {name: given[name] for name in self._tree.trained_names}
        return measured(self._recipe, trained, {n: given[n] for n in self._tree.names if n not in trained}, batch)

    def load(self, arrays: Arrays, ctx: Context) -> None:
        self._compiled: Compiled = compiled(self._recipe)
        self._loaded = arrays.schema
        self._trained, self._rest = self._split(arrays, ctx)
        self._memory = self._compiled.start(self._trained)
        self._key = key_of(ctx.key) if self._recipe.takes_key else None
        self._steps, self._counted = 0, None

    def _split(self, arrays: Arrays, ctx: Context) -> tuple[Leaves, Leaves]:
        """The leaves that are trained, and the rest, on the client's device."""
        self._tree.check(arrays.schema, self._initial.schema)
        given = placed(leaves(arrays), place_of(self._device or ctx.device))
        trained = {name: given[name] for name in self._tree.trained_names}
        return trained, {name: given[name] for name in self._tree.names if name not in trained}

    def release(self) -> None:
        # A client may outlive its turn; what it trained need not.
        self._trained, self._rest, self._memory = {}, {}, None

    def native(self, arrays: Arrays) -> Leaves:
        return leaves(arrays)

    def batches(self, ctx: Context) -> Iterator[Any]:
        shuffle = shuffler(ctx.key) if self._shuffle else None
        given = 0
        for number in range(self._epochs):
            seen = 0
            for batch in one_pass(self._train, self._batch_size, shuffle):
                if self._max_steps is not None and given >= self._max_steps:
                    return
                given += 1
                seen += length(batch)
                yield batch
            if number == 0:
                self._counted = seen  # of an iterable only a pass can tell

    def step(self, batch: Any, correct: Correct | None) -> tuple[float, float]:
        key = self._key_at(self._steps)
        if correct is None:
            step = self._compiled.step
            self._trained, self._memory, loss = step(self._trained, self._rest, self._memory, batch, key)
        else:
            loss, found = self._compiled.gradients(self._trained, self._rest, batch, key)
            found = {name: correct(name, g, self._trained[name]).astype(g.dtype) for name, g in found.items()}
            self._trained, self._memory = self._compiled.moved(self._trained, found, self._memory)
        self._steps += 1
        return float(loss), length(batch)

    def _key_at(self, step: int) -> Any:
        return None if self._key is None else jax.random.fold_in(self._key, step)

    def dump(self) -> Arrays:
        return filled(self._loaded, {**self._trained, **self._rest})

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        raise AssertionError("an open client is trained by umbel.local.run_steps")

    def gradient(self, start: Arrays, ctx: Context) -> Fitted:
        try:
            self.load(start, ctx)
            total, loss_sum, count = self._summed()
        finally:
            self.release()
        still = Arrays.zeros(start.schema.delta)
        if not count:
            return Fitted(still.frozen(), 0, is_delta=True)
        change = filled(still.schema, {**host(still), **{name: grad / -count for name, grad in total.items()}})
        return Fitted(change, count, 1, 1.0, {"loss": loss_sum / count}, is_delta=True)

    def _summed(self) -> tuple[Leaves, float, float]:
        """(the summed gradients, the summed loss, how many) over all examples."""
        total: Leaves = {}
        loss_sum = count = 0.0
        for number, batch in enumerate(one_pass(self._train, self._batch_size, None)):
            loss, found = self._compiled.raw(self._trained, self._rest, batch, self._key_at(number))
            size = length(batch)
            for name, grad in found.items():
                total[name] = total.get(name, 0.0) + size * grad.astype(np.promote_types(grad.dtype, np.float32))
            loss_sum, count = loss_sum + float(loss) * size, count + size
        return total, loss_sum, count

    def loss(self, start: Arrays, ctx: Context) -> float:
        return self._assess(self._train, start, ctx)[0]

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        loss, count, metrics = self._assess(self._test, model, ctx)
        return Evaluation(loss, count, metrics)

    def _assess(self, data: Any, arrays: Arrays, ctx: Context) -> tuple[float, float, dict[str, float]]:
        sums: dict[str, float] = {}
        count = 0.0
        measured = compiled(self._recipe).measured
        trained, rest = self._split(arrays, ctx)
        for batch in () if data is None else one_pass(data, self._batch_size, None):
            size = length(batch)
            for name, value in measured(trained, rest, batch).items():
                sums[name] = sums.get(name, 0.0) + float(value) * size
            count += size
        means = {name: total / count for name, total in sums.items()} if count else {"loss": 0.0}
        return means.pop("loss"), count, means

    def block_kind(self, ctx: Context) -> Hashable:
        if not is_columns(self._train):
            raise NotSupported("its training data are batches, and not whole arrays")
        columns, form = cast("tuple[list[Any], Hashable]", jax.tree_util.tree_flatten(self._train))
        looks = tuple((column.dtype, column.shape[1:]) for column in columns)
        found = (self._recipe.kind, self._initial.schema, self._lr, self._momentum, form, looks, self._device)
        try:
            hash(found)
        except TypeError as error:
            raise NotSupported(f"whether it is like others cannot be told ({error})") from None
        return found

    @classmethod
    def train_block(cls, members: Sequence[Member], *, most_steps: int | None = None) -> list[Fitted]:
        clients = [cast("JaxClient", member.client) for member in members]
        for schema in {member.start.schema: None for member in members}:
            clients[0]._tree.check(schema, clients[0]._initial.schema)
        counts = [length(client._train) for client in clients]
        ends = np.cumsum(counts)
        lots: list[Numbers] = [
            np.arange(end - count, end, dtype=np.int64) for end, count in zip(ends, counts, strict=True)
        ]
        keys, passes = [member.ctx.key for member in members], [client._passes(most_steps) for client in clients]
        columns = jax.tree_util.tree_map(lambda *parts: np.concatenate(parts), *(client._train for client in clients))
        first = clients[0]
        place = place_of(first._device or members[0].ctx.device)
        steps = Steps(first._recipe, first._lr, first._momentum, place)
        return train_block(steps, members, columns, Order.drawn(lots, keys, passes, shuffler))

    def _passes(self, most_steps: int | None) -> Passes:
        most = min((steps for steps in (self._max_steps, most_steps) if steps is not None), default=None)
        return Passes(self._batch_size, self._epochs, most, self._shuffle)


def shuffler(key: int) -> Shuffle:
    """How the turn with this key shuffles, pass after pass."""
    return generator(derive(key, "order")).permutation


def _checked(optimizer: Any, momentum: float) -> Any:
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise ConfigError(
            f"optimizer must have init and update, as optax's have, got {optimizer!r}; try optax.adam(1e-3), or leave "
            "it out for plain SGD"
        )
    require(not momentum, "momentum is of plain SGD; give it to the optimizer instead, as in optax.sgd(0.1, momentum)")
    return optimizer
