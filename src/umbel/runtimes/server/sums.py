"""What a secure round on nodes is led by: the steps of a sum, whether clients mask their vectors or encrypt them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

from umbel.coordinators import Phase, Secure
from umbel.errors import ProtocolError
from umbel.message import Task, Update, validate
from umbel.privacy.sa1.conversation import STEPS, Conversation
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.ring import GROUP, words_schema
from umbel.runtimes.secure import offer_for
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
        self, settings: Secure, run: str, phase: Phase, task: Task, schema: Mapping[str, Schema], beacon: bytes
    ) -> None:
        """Before anybody is asked.

        Args:
            schema: of the groups that are summed; empty for an evaluation.
            beacon: digest of the last sum's header.

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

    @property
    @abstractmethod
    def digest(self) -> bytes:
        """Of the header, once the sum is opened."""

    @abstractmethod
    def messages(self, step: str) -> dict[str, bytes]:
        """What each client is sent in this step.

        Raises:
            SecureAborted: too few clients are left.
        """

    @abstractmethod
    def own(self, step: str, message: bytes) -> dict[str, Any]:
        """What an ask says to its client alone."""

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
        self, settings: Secure, run: str, phase: Phase, task: Task, schema: Mapping[str, Schema], beacon: bytes
    ) -> None:
        self._talk = Conversation(offer_for(settings, run, phase, task, schema, beacon), phase.clients)
        self._words = self._talk.server.offer.encoding.length
        self._schema = words_schema(self._words)
        self.answer_bytes = sum(expected.nbytes for expected in self._schema.values())

    @property
    def turns(self) -> Iterator[str]:
        return iter(self.steps)

    @property
    def summed(self) -> tuple[str, ...]:
        return self._talk.summed

    @property
    def digest(self) -> bytes:
        return self._talk.server.header.digest

    def messages(self, step: Any) -> dict[str, bytes]:
        return self._talk.messages(step)

    def own(self, step: str, message: bytes) -> dict[str, Any]:
        return {"step": step, "message": message, "words": self._words}

    def task(self, step: str, task: Task) -> Task:
        return task

    def more_s(self, step: str) -> float:
        return 0.0

    def took(self, step: Any, client: str, update: Update) -> None:
        if step != self.trains_in:
            self._talk.took(step, client, message_in(update))
            return
        validate(client, update.groups, self._schema)
        arrays = update.groups[GROUP].arrays
        self._talk.server.masked(client, arrays.flat(arrays.schema.segments[0]))

    def decoded(self) -> Decoded:
        return self._talk.decoded()


def message_in(update: Update) -> bytes:
    """The message of an answer.

    Raises:
        ProtocolError: it has none.
    """
    message = update.own.get("message")
    if not isinstance(message, bytes):
        raise ProtocolError("an answer in a secure round has a message")
    return message
