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
from umbel.privacy.sa1.conversation import STEPS, Conversation
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.ring import GROUP, WORDS
from umbel.privacy.sa1.secured import encoded
from umbel.runtimes.secure import offer_for, secured
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
        return self.talk.server.offer.encoding.decode(self.uploads[client])


def plain_round(clients: Mapping[str, LocalClient], strategy: Strategy, task: Task) -> dict[str, Update]:
    """The updates that a server sees."""
    return {
        name: strategy.local(Ask(name, "fit", task), client, _context(name, len(clients)))[0]
        for name, client in clients.items()
    }


def secure_round(clients: Mapping[str, LocalClient], strategy: Strategy, task: Task, settings: Secure) -> Transcript:
    """A whole round of SA1: the clients' half and the server's are those of every run."""
    schema = dict(strategy.schema(task, {}))
    offer = offer_for(settings, "report", Phase(1, "fit", tuple(clients)), task, schema, bytes(32))
    story = Transcript(Conversation(offer, tuple(clients)))
    half, root, members = secured(strategy, settings), os.urandom(32), dict[str, bytes]()
    for number, step in enumerate(STEPS):
        for name, message in story.talk.messages(step).items():
            own: dict[str, Any] = {
                "step": step,
                "message": message,
                "member": members.get(name, b""),
                "root": root,
                "words": offer.encoding.length,
            }
            ask, ctx = Ask(name, "fit", task, own, number), _context(name, len(clients))
            update = half.reply(ask, ctx) or half.local(ask, clients[name], ctx)[0]
            members[name] = update.own["member"]
            if step == "mask":
                _took_upload(story, name, np.array(update.groups[GROUP].arrays[WORDS]))
            else:
                story.messages.append(update.own["message"])
                story.talk.took(step, name, update.own["message"])
    for name, update in plain_round(clients, strategy, task).items():
        story.bare[name] = encoded(offer.encoding, update)
    expected = np.sum(list(story.bare.values()), axis=0, dtype=np.uint32)
    story.is_exact = np.array_equal(expected, story.talk.server.result())
    return story


def _took_upload(story: Transcript, name: str, upload: NDArray[np.uint32]) -> None:
    story.uploads[name] = upload
    story.messages.append(upload.tobytes())
    story.talk.server.masked(name, upload)


def _context(name: str, count: int) -> Context:
    return Context(client=name, partition_id=0, num_partitions=count, round=1)
