"""The abstract strategy: the mathematics of one method, the server's half and the client's half."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from umbel.arrays import Arrays
from umbel.local_client import Capability, LocalClient
from umbel.message import ClientState, Context, Group, Task, Update
from umbel.reducers import Reducer, Reduction
from umbel.schema import Schema


@final
@dataclass(frozen=True)
class State:
    """A strategy's memory between rounds: the model, more arrays by slot, plain numbers."""

    params: Arrays
    slots: Mapping[str, Arrays] = field(default_factory=dict[str, Arrays])
    scalars: Mapping[str, float] = field(default_factory=dict[str, float])


class Strategy(ABC):
    """A frozen value with pure methods. `init`, `task` and `step` run at the server, `local` at the client.

    `schema` and `open` have a default for strategies whose update is one group `delta` that fits the model.
    """

    reducer: Reducer
    needs: ClassVar[frozenset[Capability]] = frozenset({"fit"})
    """What a client must be able to do; a run that lacks such clients is refused."""

    elementwise: ClassVar[bool] = False
    """Whether `step` changes each element by what belongs to it alone (and by weights, counts, scalars and groups of
    other names), so that a step on pieces of the model gives the same bits as one on the whole."""

    takes_stale: ClassVar[bool] = False
    """Whether an update that began from an older model may be scaled and folded: the method's mathematics has room for
    asynchronous runs. Only a single group `delta` that is a change to the model can be."""

    evaluates: ClassVar[bool] = False
    """Whether `local` answers asks to evaluate, too."""

    counts_clients: ClassVar[bool] = False
    """Whether `step` uses how many clients could have been asked; such a strategy needs to know them."""

    @property
    def corrects(self) -> str | None:
        """The name of the correction to each local gradient, if there is one; such clients must be open or apply it."""
        return None

    @abstractmethod
    def init(self, params: Arrays) -> State:
        """The state before the first round."""

    @abstractmethod
    def task(self, state: State, round: int) -> Task:
        """What the cohort of `round` is sent."""

    @abstractmethod
    def local(self, ask: Any, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        """One client's turn: its update and its state afterwards."""

    @abstractmethod
    def step(self, state: State, reduced: Reduction) -> State:
        """The state after a round, from the reduced groups."""

    def reply(self, ask: Any, ctx: Context) -> Update | None:
        """The answer to an ask for which no client has to be built, such as a step of a protocol; None builds one."""
        return None

    def schema(self, task: Task, own: Mapping[str, Any]) -> Mapping[str, Schema]:
        """The groups expected back, and the schema of each."""
        return {"delta": task.arrays.schema.delta}

    def open(self, update: Update, task: Task, own: Mapping[str, Any]) -> Mapping[str, Group]:
        """The groups to fold, from a validated update."""
        return update.groups
