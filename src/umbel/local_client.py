"""What strategies need of any client, and of one whose training loop they may enter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final

from umbel.arrays import Arrays
from umbel.dtypes import Array
from umbel.errors import ClientError, NotSupported
from umbel.footprint import Footprint
from umbel.message import Context, Evaluation, Task, Update

Capability: TypeAlias = Literal["fit", "evaluate", "inside", "partial", "queries", "properties"]
Correct: TypeAlias = Callable[[str, Any, Any], Any]
Combine: TypeAlias = Callable[[Iterator[Arrays]], Arrays]


@final
@dataclass(frozen=True)
class Fitted:
    """What local training gave.

    Attributes:
        arrays: the new values by name, or (if `is_delta`) the change as `Arrays`.
        examples: how many examples were trained on.
        steps: how many optimiser steps were taken; 0 if unknown.
        path: the sum of the step sizes, momentum included; 0 if unknown.
    """

    arrays: Mapping[str, Array]
    examples: float
    steps: int = 0
    path: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_delta: bool = False


class LocalClient(ABC):
    """What strategies need of any client. `capabilities` says what it can; nothing else of it may be asked."""

    capabilities: frozenset[Capability]
    corrections: tuple[str, ...] = ()
    """Names of corrections that the client applies itself."""
    own_device: str | None = None
    """Where it computes whatever its context says, if it does."""

    @abstractmethod
    def parameters(self, ctx: Context) -> Arrays:
        """The client's own arrays, with roles."""

    @abstractmethod
    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        """Train from `start` without corrections from outside."""

    @abstractmethod
    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        """Evaluate `model` on the client's data."""

    def footprint(self) -> Footprint | None:
        """Bytes that a turn takes on its device, estimated; None where that cannot be told."""
        return None

    def properties(self, ctx: Context) -> Mapping[str, Any]:
        """What the client tells about itself: plain data."""
        return {}

    def answer(self, task: Task, ctx: Context) -> Update:
        """Answer a query; `task.config["query"]` names it."""
        raise ClientError(ctx.client, "answers no queries; give its class a method query(context)")


class StepClient(LocalClient):
    """A client whose training loop strategies may enter: it loads, steps and dumps, the loop below does the rest."""

    @abstractmethod
    def load(self, arrays: Arrays, ctx: Context) -> None:
        """Copy `arrays` into the model and start local training anew."""

    def release(self) -> None:
        """Called when a turn is over, however it ended: give back what `load` took."""

    @abstractmethod
    def native(self, arrays: Arrays) -> Mapping[str, Any]:
        """`arrays` in the framework's own type, for corrections."""

    @abstractmethod
    def batches(self, ctx: Context) -> Iterable[Any]:
        """The batches of one turn, all local epochs."""

    @abstractmethod
    def step(self, batch: Any, correct: Correct | None) -> tuple[float, float]:
        """One batch: gradient, `correct` on each array's, optimiser step. Returns (mean loss, examples)."""

    @abstractmethod
    def dump(self) -> Arrays:
        """The model's present arrays."""

    @abstractmethod
    def gradient(self, start: Arrays, ctx: Context) -> Fitted:
        """The mean gradient over all data at `start`; `averaged` arrays hold their new values' change."""

    def example_gradients(self, start: Arrays, ctx: Context) -> Iterator[Arrays]:
        """The gradient of each example's own loss at `start`, negated, one after the other.

        Raises:
            NotSupported: the client has none; `TorchClient` and `GradientClient` do.
        """
        raise NotSupported(
            f"{type(self).__name__} gives no gradients of single examples; use TorchClient or GradientClient"
        )

    def step_by_example(self, rows: Sequence[int], combine: Combine, correct: Correct | None) -> None:
        """One optimiser step with what `combine` makes of these examples' gradients, and then `correct` on each array.

        Args:
            rows: which of the client's examples, from 0; none is a step, too.
            combine: is handed the gradient of each one's own loss, one after the other, and gives the step's.

        Raises:
            NotSupported: the client has none; `TorchClient` and `GradientClient` do.
        """
        raise NotSupported(
            f"{type(self).__name__} gives no gradients of single examples; use TorchClient or GradientClient"
        )

    def example_losses(self, model: Arrays, ctx: Context, *, held_out: bool = False) -> Iterator[float]:
        """The loss of each example at `model`, one after the other; of each batch where the data have their own.

        Args:
            held_out: take the data to evaluate on, and nothing where there are none but those to train on.

        Raises:
            NotSupported: the client has none; `TorchClient` and `GradientClient` do.
        """
        raise NotSupported(
            f"{type(self).__name__} gives no losses of single examples; use TorchClient or GradientClient"
        )

    @abstractmethod
    def loss(self, start: Arrays, ctx: Context) -> float:
        """The mean training loss at `start`."""

    @property
    @abstractmethod
    def progress(self) -> tuple[int, float]:
        """Optimiser steps since `load`, and the sum of their sizes (momentum included)."""

    @property
    def turn_steps(self) -> int | None:
        """How many batches a whole turn has; None if only going through them can tell."""
        return None

    @property
    @abstractmethod
    def num_examples(self) -> float | None:
        """How many examples the client has; None if only a pass over the data can tell."""
