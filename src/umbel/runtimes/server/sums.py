"""What a secure round on nodes is led by: the steps of a sum, whether clients mask their vectors or encrypt them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

from umbel.coordinators import Phase, Secure
from umbel.message import Task, Update, validate
from umbel.privacy.sa1.conversation import STEPS
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.keyring import Keyring
from umbel.privacy.sa1.ring import GROUP, words_schema
from umbel.runtimes.secure import purpose_for
from umbel.schema import Schema

SLOW_BYTES_PER_S = 2**20
"""A client that is sent more than messages has this much longer."""


class SecureSum(ABC):
    """One sum under way, step after step.

    Attributes:
        steps: their names.
        trains_in: the one in which clients train, and send a vector.
        answer_bytes: more than an answer has.
    """

    steps: ClassVar[tuple[str, ...]]
    trains_in: ClassVar[str]
    answer_bytes: int

    @abstractmethod
    def __init__(
        self, settings: Secure, run: str, phase: Phase, task: Task, schema: Mapping[str, Schema], keys: Keyring
    ) -> None:
        """Before anybody is asked.

        Args:
            schema: of the groups that are summed; empty for an evaluation.
            keys: the run's, where sums take theirs from and leave some for the next.

        Raises:
            SecureAborted: such a sum cannot be.
        """

    @property
    @abstractmethod
    def turns(self) -> Iterator[str]:
        """The steps as they come."""

    @property
    @abstractmethod
    def summed(self) -> tuple[str, ...]:
        """The clients whose vectors are in the sum."""

    @abstractmethod
    def ended(self, keys: Keyring) -> None:
        """The sum was opened: leave what the next one can use."""

    @abstractmethod
    def messages(self, step: str) -> dict[str, dict[str, Any]]:
        """What an ask of this step says to each client alone.

        Raises:
            SecureAborted: too few clients are left.
        """

    @abstractmethod
    def task(self, step: str, task: Task) -> Task:
        """What clients are sent together in this step, where the round's is `task`."""

    @abstractmethod
    def more_s(self, step: str) -> float:
        """How much longer than for small messages to wait in this step."""

    @abstractmethod
    def took(self, step: str, client: str, update: Update) -> None:
        """Take in an answer.

        Raises:
            ProtocolError, UpdateRefused: it is not in order; its client counts as dropped out.
        """

    @abstractmethod
    def decoded(self) -> Decoded:
        """What the opened sum says.

        Raises:
            SecureAborted: it cannot be opened.
        """


@final
class Masked(SecureSum):
    """A sum under masks."""

    steps = tuple(STEPS)
    trains_in = "mask"

    def __init__(
        self, settings: Secure, run: str, phase: Phase, task: Task, schema: Mapping[str, Schema], keys: Keyring
    ) -> None:
        purpose = purpose_for(settings, phase, task, schema)
        self._talk = keys.conversation(purpose, phase.clients)
        self._told: dict[str, dict[str, Any]] = {}
        self._schema = words_schema(purpose.encoding.length)
        self.answer_bytes = sum(expected.nbytes for expected in self._schema.values())

    @property
    def turns(self) -> Iterator[str]:
        while (turn := self._talk.go_on()) is not None:
            step, self._told = turn
            yield step

    @property
    def summed(self) -> tuple[str, ...]:
        return self._talk.summed

    def ended(self, keys: Keyring) -> None:
        keys.opened(self._talk)

    def messages(self, step: str) -> dict[str, dict[str, Any]]:
        return {client: {"step": step, **own} for client, own in self._told.items()}

    def task(self, step: str, task: Task) -> Task:
        return task

    def more_s(self, step: str) -> float:
        return 0.0

    def took(self, step: str, client: str, update: Update) -> None:
        if step != self.trains_in:
            self._talk.took(client, update.own)
            return
        validate(client, update.groups, self._schema)
        arrays = update.groups[GROUP].arrays
        self._talk.masked(client, arrays.flat(arrays.schema.segments[0]), update.own)

    def decoded(self) -> Decoded:
        return self._talk.decoded()
