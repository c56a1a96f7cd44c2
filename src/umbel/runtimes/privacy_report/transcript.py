"""A round whose every byte that reaches the server is kept: what somebody at the server could have written down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.coordinators import Phase, Secure
from umbel.local_client import LocalClient
from umbel.message import Ask, Context, Task, Update
from umbel.privacy.sa1.conversation import Conversation
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.ring import GROUP, WORDS
from umbel.privacy.sa1.secured import encoded
from umbel.runtimes.secure import keyring_for, purpose_for, secured
from umbel.strategy import Strategy


@final
@dataclass
class Transcript:
    """What the server saw of a secure round.

    Attributes:
        messages: all that came from the clients, the masked vectors included, in the order in which it came.
        uploads: the masked vector of each client.
        bare: the same vectors without masks, which nobody sent: for controls.
        is_exact: whether what the server opened is the sum of the bare vectors.
    """

    talk: Conversation
    messages: list[bytes] = field(default_factory=list[bytes])
    uploads: dict[str, NDArray[np.uint32]] = field(default_factory=dict[str, NDArray[np.uint32]])
    bare: dict[str, NDArray[np.uint32]] = field(default_factory=dict[str, NDArray[np.uint32]])
    is_exact: bool = False

    def decoded(self, client: str) -> Decoded:
        """What a client's upload would say if it were not masked."""
        return self.talk.purpose.encoding.decode(self.uploads[client])


def plain_round(clients: Mapping[str, LocalClient], strategy: Strategy, task: Task) -> dict[str, Update]:
    """The updates that a server sees."""
    return {
        name: strategy.local(Ask(name, "fit", task), client, _context(name, len(clients)))[0]
        for name, client in clients.items()
    }


def secure_round(clients: Mapping[str, LocalClient], strategy: Strategy, task: Task, settings: Secure) -> Transcript:
    """A whole round of SA1: the clients' half and the server's are those of every run."""
    purpose = purpose_for(settings, Phase(1, "fit", tuple(clients)), task, dict(strategy.schema(task, {})))
    story = Transcript(keyring_for(settings, "report").conversation(purpose, tuple(clients)))
    half, root, kept = secured(strategy, settings), os.urandom(32), dict[str, bytes]()
    while (turn := story.talk.go_on()) is not None:
        step, told = turn
        for name, said in told.items():
            own = {**said, "step": step, "kept": kept.get(name, b""), "root": root}
            ask, ctx = Ask(name, "fit", task, own), _context(name, len(clients))
            update = half.reply(ask, ctx) or half.local(ask, clients[name], ctx)[0]
            answer = dict(update.own)
            kept[name] = answer.pop("kept")
            story.messages.extend(value for value in answer.values() if isinstance(value, bytes))
            if step == "mask":
                _took_upload(story, name, np.array(update.groups[GROUP].arrays[WORDS]), answer)
            else:
                story.talk.took(name, answer)
    for name, update in plain_round(clients, strategy, task).items():
        story.bare[name] = encoded(purpose.encoding, update)
    expected = np.sum(list(story.bare.values()), axis=0, dtype=np.uint32)
    story.is_exact = np.array_equal(expected, story.talk.server.result())
    return story


def _took_upload(story: Transcript, name: str, upload: NDArray[np.uint32], told: Mapping[str, Any]) -> None:
    story.uploads[name] = upload
    story.messages.append(upload.tobytes())
    story.talk.masked(name, upload, told)


def _context(name: str, count: int) -> Context:
    return Context(client=name, partition_id=0, num_partitions=count, round=1)
