"""What travels between a server and its clients: frozen data, and the context that user code is handed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast, final

import numpy as np

from umbel.arrays import Arrays
from umbel.dtypes import LARGEST, finite, widen
from umbel.errors import ConfigError, UpdateRefused, printable
from umbel.randomness import generator
from umbel.schema import Schema

Kind: TypeAlias = Literal["fit", "evaluate", "properties", "query"]
Scalar: TypeAlias = bool | int | float | str | bytes
Plain: TypeAlias = "Scalar | list[Plain] | dict[str, Plain] | None"
Config: TypeAlias = Mapping[str, Any]
Metrics: TypeAlias = Mapping[str, float]

BLOCK = 2**20


@final
@dataclass(frozen=True)
class Task:
    """What the whole cohort of a round shares; encoded once.

    Attributes:
        round: the round's number, from 1.
        arrays: the model as far as it travels.
        extra: more arrays of the strategy, such as SCAFFOLD's server control.
        config: plain data for the user's `fit` or `evaluate`.
        shared: patterns of the array names that travel; empty means all.
    """

    round: int
    arrays: Arrays
    extra: Mapping[str, Arrays] = field(default_factory=dict[str, Arrays])
    config: Config = field(default_factory=dict[str, Any])
    shared: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Ask:
    """One request to one client. `own` is this client's small plain data; `attempt` counts from 0.

    `key` is the root of the client's randomness for this turn; None derives it from the run's seed. `share` is below 1
    where a simulated deadline comes before the turn is done: that much of its steps it can take.

    What the server makes of the answer, of which the client is not told: `scale` is a factor on the update, below 1 for
    a stale one, and `onto` the model that it is to move, if that is no longer the task's.
    """

    client: str
    kind: Kind
    task: Task
    own: Config = field(default_factory=dict[str, Any])
    phase: int = 0
    attempt: int = 0
    key: int | None = None
    scale: float = 1.0
    onto: Arrays | None = None
    share: float = 1.0


@final
@dataclass(frozen=True)
class Group:
    """Arrays and the weight with which they enter the reduction."""

    arrays: Arrays
    weight: float


@final
@dataclass(frozen=True)
class Update:
    """What a client sends back.

    Attributes:
        groups: name → arrays with a weight; most strategies have one group, `delta`.
        examples: how many examples were trained on.
        steps: how many local steps were taken.
        metrics: the client's own numbers, such as its training loss.
        own: this client's small plain data for whoever asked, the counterpart of an ask's `own`.
    """

    groups: Mapping[str, Group]
    examples: float
    steps: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    own: Config = field(default_factory=dict[str, Any])


@final
@dataclass(frozen=True)
class Evaluation:
    """A client's verdict on a model: `loss` is the mean over `examples`."""

    loss: float
    examples: float
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])


@final
@dataclass(frozen=True)
class Receipt:
    """What a coordinator sees of an answer: never arrays.

    `verdict` is "done", "failed" (the client raised or died) or "refused" (its answer was not valid). `seconds` is how
    long the client worked; `took_s` how long its answer took on the run's clock, if it has one. `loss` is there only
    for a selector that learns from it. `update` is the seal of the answer's frame, where it came as one.
    """

    client: str
    round: int
    attempt: int
    verdict: Literal["done", "failed", "refused"]
    examples: float = 0.0
    steps: int = 0
    reason: str = ""
    seconds: float = 0.0
    loss: float | None = None
    took_s: float | None = None
    update: str = ""


@final
@dataclass
class ClientState:
    """What lasts between a client's turns.

    Attributes:
        user: what the user's code keeps in `context.state`: arrays and plain scalars.
        strategy: what the strategy's client half keeps, such as SCAFFOLD's control.
        private: the arrays that never leave the client.
    """

    user: dict[str, Any] = field(default_factory=dict[str, Any])
    strategy: dict[str, Any] = field(default_factory=dict[str, Any])
    private: Arrays | None = None


@final
@dataclass
class Context:
    """What user code is handed.

    Attributes:
        client: the client's id, a stable text; in simulation the partition index.
        partition_id, num_partitions: which part of the data, of how many.
        round: the round's number; 0 before the first.
        config: the app's and the round's plain settings.
        state: this client's own memory: name → array or plain scalar. Kept only if this turn's answer is kept.
        device: a torch device name.
        memory: all that lasts of this client; `state` is the user's part of it.
        share: how much of its steps a turn can take before a simulated deadline. A loop that heeds it sets it to 1.
    """

    client: str
    partition_id: int
    num_partitions: int
    round: int = 0
    config: Config = field(default_factory=dict[str, Any])
    device: str = "cpu"
    memory: ClientState = field(default_factory=ClientState)
    key: int = 0
    clock: Callable[[], float] | None = None
    ends_at_s: float = math.inf
    on_report: Callable[[float], None] | None = None
    share: float = 1.0

    @property
    def state(self) -> dict[str, Any]:
        return self.memory.user

    @cached_property
    def rng(self) -> np.random.Generator:
        """A generator that depends on (seed, round, client) alone."""
        return generator(self.key)

    def time_left_s(self) -> float:
        """Seconds until the answer is due; infinite where nothing is due."""
        return math.inf if self.clock is None else self.ends_at_s - self.clock()

    def should_stop(self) -> bool:
        """Whether to stop training now and send what there is."""
        return self.time_left_s() <= 0

    def report(self, progress: float) -> None:
        """Tell how far this turn is, from 0 to 1."""
        if self.on_report is not None:
            self.on_report(progress)


def validate(client: str, groups: Mapping[str, Group], schema: Mapping[str, Schema]) -> None:
    """Refuse an update that does not fit `schema`, with the client and the array named.

    Raises:
        UpdateRefused: other groups, names, shapes or dtypes than expected; NaN or infinite values; a weight that is
            negative or not finite.
    """
    fits(client, {name: (group.arrays.schema, group.weight) for name, group in groups.items()}, schema)
    for group in groups.values():
        check_values(client, group.arrays, group.weight)


def fits(client: str, groups: Mapping[str, tuple[Schema, float]], schema: Mapping[str, Schema]) -> None:
    """The part of `validate` that looks at no value: which groups there are, of which schemas and weights."""
    if groups.keys() != schema.keys():
        raise UpdateRefused(client, f"sent the groups {sorted(groups)}, the task expects {sorted(schema)}")
    for name, (described, given) in groups.items():
        weight = _number(given)
        if weight is None or not 0 <= weight < math.inf:
            raise UpdateRefused(
                client, f"group {name!r} has weight {given!r}; a weight is a finite number of at least 0"
            )
        if described != schema[name]:
            _explain(client, described, schema[name])


def check_values(client: str, arrays: Arrays, weight: float) -> None:
    """The part of `validate` that looks at values, those of a group or of a piece of one."""
    _check_finite(client, arrays)
    _check_size(client, arrays, weight)


def _explain(client: str, got: Schema, wanted: Schema) -> None:
    for name in wanted.by_name:
        if name not in got.by_name:
            extra = next((n for n in got.by_name if n not in wanted.by_name), None)
            more = f", it has {extra!r} instead" if extra else ""
            raise UpdateRefused(client, f"array {name!r} of the task is missing{more} (did the model change?)")
    for spec in got.specs:
        expected = wanted.by_name.get(spec.name)
        if expected is None:
            raise UpdateRefused(client, f"sent the array {spec.name!r}, which the task does not have")
        if spec.shape != expected.shape:
            raise UpdateRefused(client, f"array {spec.name!r} has shape {spec.shape}, the task has {expected.shape}")
        if spec.dtype != expected.dtype:
            raise UpdateRefused(client, f"array {spec.name!r} has dtype {spec.dtype}, the task has {expected.dtype}")
    raise UpdateRefused(client, "its arrays come in another order or with other roles than the task's")


def _check_finite(client: str, arrays: Arrays) -> None:
    for segment in arrays.schema.segments:
        if finite(arrays.flat(segment), segment.dtype):
            continue
        name = next(s.name for s in arrays.schema.specs if not finite(arrays[s.name], s.dtype))
        kind = "NaN" if np.isnan(arrays[name].astype(np.float64)).any() else "an infinite value"
        raise UpdateRefused(client, f"array {name!r} holds {kind}; lower the learning rate or clip the gradient")


def _check_size(client: str, arrays: Arrays, weight: float) -> None:
    """Weighted values beyond float64's reach would tear a sum; single precision gets there by its weight only."""
    for segment in arrays.schema.segments:
        if segment.dtype != "F64" and weight <= 1e200:
            continue
        flat = arrays.flat(segment)
        for start in range(0, flat.size, BLOCK):
            block = widen(flat[start : start + BLOCK], segment.dtype)
            if not float(np.abs(block).max()) * weight < LARGEST:
                raise UpdateRefused(client, f"a value times its weight exceeds {LARGEST:.0g}, more than a sum can hold")


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, str, bytes)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def numbers(metrics: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """The metrics that are finite numbers, and a sentence for each one that is not."""
    kept: dict[str, float] = {}
    sentences: list[str] = []
    for name, value in metrics.items():
        number = float(value) if type(value) in (bool, np.bool_) else _number(value)
        if number is not None and math.isfinite(number):
            kept[printable(str(name))] = number
        else:
            shown = repr(cast("object", value))
            shown = shown if len(shown) <= 40 else shown[:37] + "..."
            sentences.append(f"metric {name!r} is {shown}, not a finite number, and was left out")
    return kept, sentences


def checked_examples(client: str, examples: Any) -> float:
    """`examples` as a float.

    Raises:
        UpdateRefused: it is negative, not finite or not a number.
    """
    number = _number(examples)
    if number is None or not 0 <= number < math.inf:
        raise UpdateRefused(client, f"num_examples is {examples!r}; allowed is a finite number of at least 0")
    return number


def is_number(value: object) -> bool:
    """Whether an argument is a number, and neither a text nor a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def require(condition: bool, sentence: str) -> None:
    """Raise `ConfigError(sentence)` unless `condition` holds."""
    if not condition:
        raise ConfigError(sentence)
