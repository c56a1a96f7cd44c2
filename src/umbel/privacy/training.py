"""`DpSgdTraining`: clients train with noise in every step, so that whatever leaves them hides each example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.errors import NotSupported
from umbel.local_client import Capability, Correct, Fitted, LocalClient, StepClient
from umbel.message import ClientState, Context, Evaluation, Group, Task, Update, require
from umbel.privacy.clip import EXAMPLE_BITS, grid_of
from umbel.privacy.examples import opened, summed
from umbel.privacy.noise import keystream, on_grid
from umbel.privacy.private import Private
from umbel.privacy.promised import Promised, check_dtypes, check_model
from umbel.reducers import Reduction
from umbel.schema import Schema
from umbel.strategy import State

Chance: TypeAlias = Callable[[int], NDArray[np.float64]]


def uniform(count: int) -> NDArray[np.float64]:
    """So many uniform numbers from 0 to below 1, of 53 bits, from AES-256-CTR under a key of the operating system's."""
    return (keystream()(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


@final
@dataclass(frozen=True, kw_only=True)
class DpSgdTraining(Promised):
    """g = (Σ clip(∇ℓᵢ(x)) + noise) / (q · n̄) in every step of a client's own training, over examples drawn with rate q.

    n̄ is how many examples a client has on average, which is public; q and how many steps a round has are the plan's.
    What is drawn and the noise come from the operating system's generator, at the client. All that is done with such a
    gradient, such as a correction, an optimiser with a memory, sums and the server's steps, costs nothing more.

    Args:
        chance: where draws come from; only tests give another.
        Others: see `Promised`; `inner` trains with the clients' loop.

    References:
        M. Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, https://arxiv.org/abs/1607.00133
    """

    chance: Chance = field(default=uniform, repr=False, compare=False, metadata={"plan": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.plan.noise == "dp-sgd" and self.mechanism.dp_sgd == self.plan.dp_sgd,
            'the steps of clients have noise with noise="dp-sgd", and as the mechanism says',
        )
        object.__setattr__(self, "needs", self.needs | {"inside"})

    @property
    def expected(self) -> float:
        """Of how many examples a step is on average: public, and the same whatever a client has."""
        assert self.plan.expected_examples is not None
        assert self.plan.sample_rate is not None
        return self.plan.sample_rate * self.plan.expected_examples / self.mechanism.clients

    def init(self, params: Arrays) -> State:
        state = self.inner.init(params)
        check_model(self, state)
        return state

    def task(self, state: State, round: int) -> Task:
        return self.inner.task(state, round)

    def schema(self, task: Task, own: Mapping[str, Any]) -> Mapping[str, Schema]:
        return self.inner.schema(task, own)

    def local(self, ask: Any, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        update, memory = self.inner.local(ask, _Guarded(opened(client), self), ctx)
        # A loss, or how many examples were drawn, is in no budget, and stays where it is.
        return Update(_alike(update.groups), 1.0, 1), memory

    def open(self, update: Update, task: Task, own: Mapping[str, Any]) -> Mapping[str, Group]:
        return _alike(self.inner.open(replace(update, groups=_alike(update.groups)), task, own))

    def step(self, state: State, reduced: Reduction) -> State:
        return self.inner.step(state, reduced)

    def noisy(self, gradients: Iterator[Arrays], schema: Schema) -> Arrays:
        """What a step is made of: the clipped gradients' sum with noise, over how many are expected."""
        total = summed(gradients, schema, self, EXAMPLE_BITS)
        deviation, grid = self.mechanism.noise_multiplier * self.plan.bound, grid_of(self.plan.bound, EXAMPLE_BITS)
        total.values += on_grid(self.draw, total.values.size, deviation, grid)
        return total.scaled(1 / self.expected).arrays()


def one_step(training: Promised) -> Private:
    """A release of one step over all examples: no less than what anybody sees of a turn. What is one stays as it is."""
    if isinstance(training, Private):
        return training
    plan = replace(training.plan, noise="local", sample_rate=None, local_steps=None)
    return Private(inner=training.inner, plan=plan, mechanism=replace(training.mechanism, dp_sgd=None))


def _alike(groups: Mapping[str, Group]) -> dict[str, Group]:
    return {name: Group(group.arrays, 1.0) for name, group in groups.items()}


@final
class _Guarded(StepClient):
    """Stands before a client: lets nothing of its data through but steps with noise."""

    def __init__(self, client: StepClient, training: DpSgdTraining) -> None:
        self._client, self._training = client, training
        self.capabilities: frozenset[Capability] = client.capabilities & {"fit", "inside", "partial"}
        self._schema: Schema | None = None

    @property
    def num_examples(self) -> None:
        """Is the client's own business."""

    @property
    def turn_steps(self) -> int:
        return self._training.mechanism.steps

    @property
    def progress(self) -> tuple[int, float]:
        return self._client.progress

    def parameters(self, ctx: Context) -> Arrays:
        return self._client.parameters(ctx)

    def load(self, arrays: Arrays, ctx: Context) -> None:
        self._check(arrays.schema, self._client.parameters(ctx).schema)
        self._schema = arrays.schema.delta
        self._client.load(arrays, ctx)

    def _check(self, given: Schema, own: Schema) -> None:
        """Refuse arrays that would leave without noise, whatever a server calls them."""
        for spec in own.specs:
            role = given.by_name[spec.name].role if spec.name in given.by_name else spec.role
            if "averaged" in (spec.role, role) or (spec.role == "trained" and role != "trained"):
                raise NotSupported(
                    f'noise="dp-sgd" is on trained arrays, {spec.name!r} is {spec.role} here and {role} in the task; '
                    "freeze it at the client, or use a layer without running statistics, such as group normalisation"
                )
        check_dtypes(given.delta)

    def release(self) -> None:
        self._client.release()

    def native(self, arrays: Arrays) -> Mapping[str, Any]:
        return self._client.native(arrays)

    def batches(self, ctx: Context) -> Iterator[Sequence[int]]:
        """Each example is in each step by itself, with the plan's rate: a step may have none."""
        count, dp_sgd = self._client.num_examples, self._training.plan.dp_sgd
        if count is None or dp_sgd is None:
            raise NotSupported(
                'noise="dp-sgd" draws single examples, and how many there are cannot be told of these data; give '
                "arrays or a Dataset"
            )
        for _ in range(dp_sgd.local_steps):
            yield np.flatnonzero(self._training.chance(int(count)) < dp_sgd.sample_rate).tolist()

    def step(self, batch: Sequence[int], correct: Correct | None) -> tuple[float, float]:
        schema = self._schema
        assert schema is not None
        self._client.step_by_example(batch, lambda gradients: self._training.noisy(gradients, schema), correct)
        return 0.0, 1.0

    def dump(self) -> Arrays:
        return self._client.dump()

    def gradient(self, start: Arrays, ctx: Context) -> Fitted:
        raise self._refusal("a gradient")

    def loss(self, start: Arrays, ctx: Context) -> float:
        raise self._refusal("its loss")

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        raise self._refusal("training without noise")

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        raise self._refusal("an evaluation")

    def _refusal(self, what: str) -> NotSupported:
        return NotSupported(
            f'noise="dp-sgd" lets nothing but steps with noise leave a client, and the strategy asks for {what}; use '
            "FedAvg or FedProx"
        )
