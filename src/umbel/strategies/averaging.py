"""What the averaging strategies share: train locally, send the change, average it, let a server optimiser move."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from umbel.arrays import Arrays, Vector, matches, moved
from umbel.errors import ConfigError
from umbel.local import Correction, assemble, delta_of, keep_private, train
from umbel.local_client import Fitted, LocalClient
from umbel.message import Ask, ClientState, Context, Group, Task, Update, require
from umbel.optimizers import ServerOptimizer, initial_slots, optimize, sgd
from umbel.reducers import Mean, Reducer, Reduction
from umbel.strategy import State, Strategy


@dataclass(frozen=True, kw_only=True)
class Averaging(Strategy):
    """The abstract averaging strategy; a method adds its correction or its own `local` and `step`.

    Args:
        server: what to do with the mean change; `sgd()` takes it as it is.
        reducer: how updates are combined.
        shared: patterns of the names that travel, such as "backbone.*" or ["*", "!head.*"]; all other arrays stay in
            the client's own state (a personal head). None shares everything.
        weighting: "examples" weights clients by their number of examples, "uniform" all alike.
    """

    plain: ClassVar[bool] = False
    """Whether the local half trains, with one correction without arrays for all clients, and sends the change."""
    one_gradient: ClassVar[bool] = False
    """Whether the local half is one gradient over all of a client's examples, sent as a change."""

    server: ServerOptimizer = field(default_factory=sgd)
    reducer: Reducer = field(default_factory=Mean)
    shared: str | Sequence[str] | None = None
    weighting: Literal["examples", "uniform"] = "examples"

    def __post_init__(self) -> None:
        require(
            isinstance(self.server, ServerOptimizer),  # pyright: ignore[reportUnnecessaryIsInstance]
            f"server must be a server optimiser such as sgd() or adam(), got {self.server!r}",
        )
        require(
            isinstance(self.reducer, Reducer),  # pyright: ignore[reportUnnecessaryIsInstance]
            f"reducer must be a reducer such as Mean() or Median(), got {self.reducer!r}",
        )
        require(
            self.weighting in ("examples", "uniform"),
            f'weighting must be "examples" or "uniform", got {self.weighting!r}',
        )
        if self.shared is not None:
            require(
                isinstance(self.shared, str) or (isinstance(self.shared, Sequence) and len(self.shared) > 0),  # pyright: ignore[reportUnnecessaryIsInstance]
                f"shared must be a pattern or a list of at least one, got {self.shared!r}; None shares everything",
            )
            object.__setattr__(self, "shared", (self.shared,) if isinstance(self.shared, str) else tuple(self.shared))

    @property
    def patterns(self) -> tuple[str, ...]:
        return () if self.shared is None else tuple(self.shared)

    def init(self, params: Arrays) -> State:
        if self.patterns:
            kept = params.schema.select(lambda spec: matches(spec.name, self.patterns))
            if not len(kept):
                raise ConfigError(f"shared={list(self.patterns)} matches no array; the model has {', '.join(params)}")
            params = params.select(kept)
        return State(params, initial_slots(self.server, params.schema))

    def task(self, state: State, round: int) -> Task:
        return Task(round, state.params, shared=self.patterns)

    @abstractmethod
    def correction(self, ask: Ask, start: Arrays, ctx: Context) -> Correction | None:
        """This method's change to each local gradient, or None."""

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        start = assemble(ask.task, client, ctx)
        fitted = train(client, start, ctx, self.correction(ask, start, ctx))
        keep_private(fitted, ask.task, ctx)
        update = self.answer(ask, fitted, delta_of(fitted, start, ctx), ctx)
        return update, ctx.memory

    def answer(self, ask: Ask, fitted: Fitted, delta: Arrays, ctx: Context) -> Update:
        """The update for a finished local training; strategies with more groups have their own."""
        return plain_update(fitted, {"delta": Group(delta, self.weight(fitted))})

    def weight(self, fitted: Fitted) -> float:
        if self.weighting == "examples":
            return float(fitted.examples)
        return 1.0 if fitted.examples else 0.0

    def step(self, state: State, reduced: Reduction) -> State:
        return self.advance(state, reduced["delta"].mean())

    def advance(self, state: State, mean: Vector) -> State:
        """Let the server optimiser move the model by the mean change."""
        change, slots = optimize(self.server, mean, state.slots)
        return State(moved(state.params, change), {**state.slots, **slots}, state.scalars)


def plain_update(fitted: Fitted, groups: dict[str, Group]) -> Update:
    """An update with these groups and the numbers of `fitted`."""
    return Update(groups, float(fitted.examples), fitted.steps, fitted.metrics)
