"""The client's half: the one local training loop, corrections as values."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from umbel.arrays import Arrays, difference, is_numbered, matches
from umbel.errors import ArraysError, ClientError, NotSupported
from umbel.local_client import Correct, Fitted, LocalClient, StepClient
from umbel.message import Context, Task, checked_examples
from umbel.schema import Role

Rule: TypeAlias = Callable[[Any, Any, Any, Any], Any]


@final
@dataclass(frozen=True)
class Correction:
    """A change to each local gradient: `rule(grad, param, start, extra) → grad`, in array operators only.

    One definition serves NumPy, torch and stacked tensors. `start` is the model as it arrived, `extra` this
    correction's own array of the same name (None if it has none).

    Attributes:
        name: what a client that applies the correction itself declares.
        settings: the rule's numbers, which such a client finds in its config.
    """

    name: str
    rule: Rule
    extra: Arrays | None = None
    settings: Mapping[str, float] = field(default_factory=dict[str, float])


def run_steps(client: StepClient, start: Arrays, ctx: Context, correction: Correction | None) -> Fitted:
    """The local loop: load, step over the batches with the correction, dump.

    Stops early when the context says so; what was done by then counts (partial work).

    Raises:
        ClientError: a simulated deadline comes before the first step is done, or nobody knows how many a turn has.
    """
    steps_left = _most_steps(client, ctx)
    try:
        client.load(start, ctx)
        correct = None if correction is None else _bound(client, correction, start)
        loss_sum = seen = 0.0
        for batch in client.batches(ctx):
            loss, examples = client.step(batch, correct)
            loss_sum += loss * examples
            seen += examples
            steps_left -= 1
            if steps_left < 1 or (ctx.clock is not None and ctx.should_stop()):
                break
        arrays = client.dump()
    finally:
        client.release()
    steps, path = client.progress
    whole = client.num_examples
    trained_on = seen if whole is None else min(whole, seen)
    metrics = {"loss": loss_sum / seen} if seen else {}
    return Fitted(arrays, trained_on, steps, path, metrics)


def _most_steps(client: StepClient, ctx: Context) -> float:
    """How many batches may be trained on: floor(share of time · all), as a simulated deadline has it."""
    if ctx.share >= 1:
        return math.inf
    share, ctx.share = ctx.share, 1.0
    whole = client.turn_steps
    if whole is None:
        raise ClientError(
            ctx.client,
            "was not done at the deadline, and how much it had done cannot be told: its data do not say how many "
            "batches there are; give arrays, a Dataset or a DataLoader",
        )
    # A product such as 0.29 · 100 lies a hair below 29; rounding to nine digits first keeps it at 29.
    done = math.floor(round(share * whole, 9))
    if done < 1:
        raise ClientError(ctx.client, f"had done none of its {whole} steps at the deadline")
    return done


def _bound(client: StepClient, correction: Correction, start: Arrays) -> Correct:
    origin = client.native(start)
    extra: Mapping[str, Any] = {} if correction.extra is None else client.native(correction.extra)
    rule = correction.rule

    def correct(name: str, grad: Any, param: Any) -> Any:
        return rule(grad, param, origin[name], extra.get(name))

    return correct


class TrainedApart(LocalClient):
    """A client whose training is somebody else's: it is handed the correction with the model."""

    @abstractmethod
    def fit_corrected(self, start: Arrays, ctx: Context, correction: Correction | None) -> Fitted:
        """Train from `start` with `correction`."""


def train(client: LocalClient, start: Arrays, ctx: Context, correction: Correction | None = None) -> Fitted:
    """Local training of any client, with `correction` if it can be applied.

    Raises:
        NotSupported: the client's loop is closed and it does not apply this correction itself.
    """
    if "fit" not in client.capabilities:
        raise ClientError(ctx.client, "cannot be trained: it has no fit(self, parameters, config)")
    if isinstance(client, TrainedApart):
        return client.fit_corrected(start, ctx, correction)
    if isinstance(client, StepClient):
        return run_steps(client, start, ctx, correction)
    if correction is not None and correction.name not in client.corrections:
        raise NotSupported(
            f"the strategy corrects each local gradient ({correction.name}), which {type(client).__name__}'s own "
            f"training loop does not allow; use TorchClient or GradientClient, or apply it yourself and declare "
            f'corrections = ("{correction.name}",)'
        )
    if correction is not None:
        ctx.config = {**ctx.config, **correction.settings}
    return client.fit_arrays(start, ctx)


def assemble(task: Task, client: LocalClient, ctx: Context) -> Arrays:
    """The client's whole model: what travelled, and its private arrays if the plan keeps some at home."""
    if not task.shared:
        return task.arrays
    private = ctx.memory.private
    if private is None:
        own = client.parameters(ctx)
        private = own.select(own.schema.select(lambda spec: not matches(spec.name, task.shared)))
        _check_shared(ctx.client, own, task)
    values = {**task.arrays, **private}
    names = sorted(values, key=int) if is_numbered(sorted(values, key=_as_number)) else list(values)
    roles: dict[str, Role] = {spec.name: spec.role for spec in task.arrays.schema.specs}
    for name in private:
        roles[name] = "private"
    return Arrays.of({name: values[name] for name in names}, roles=roles)


def _as_number(name: str) -> int:
    return int(name) if name.isdecimal() else -1


def _check_shared(client: str, own: Arrays, task: Task) -> None:
    for name in task.arrays:
        if name not in own:
            raise ClientError(client, f"its own model lacks the shared array {name!r}; it has {', '.join(own)}")


def keep_private(fitted: Fitted, task: Task, ctx: Context) -> None:
    """Put the private arrays after training into the client's pending state."""
    if task.shared and not fitted.is_delta:
        kept = {name: array for name, array in fitted.arrays.items() if name not in task.arrays}
        roles: dict[str, Role] = dict.fromkeys(kept, "private")
        ctx.memory.private = Arrays.of(kept, roles=roles)


def delta_of(fitted: Fitted, start: Arrays, ctx: Context) -> Arrays:
    """The change that travels: `new - start` on the trained and averaged arrays."""
    checked_examples(ctx.client, fitted.examples)
    if isinstance(fitted.arrays, Arrays) and fitted.is_delta:
        return fitted.arrays
    try:
        return difference(fitted.arrays, start)
    except KeyError as error:
        raise ArraysError(f"the client's answer lacks the array {error}") from None
