"""The process in which the client of one run works: `python -m umbel.runtimes.node.child FILE PARENT`.

It is told what to do through a `Pipe`, knows no network, and ends when its parent does, which is a `guard`. No Ctrl-C
reaches it, so that a `KeyboardInterrupt` is the client's own.
"""

from __future__ import annotations

import os
import resource
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from umbel.arrays import Arrays
from umbel.errors import UmbelError
from umbel.runtimes.app import App, load_app
from umbel.runtimes.lineage import die_with
from umbel.runtimes.mail import Answer, read_letter, seal_answer
from umbel.runtimes.node.host import Host
from umbel.runtimes.node.pipe import Pipe, written
from umbel.runtimes.shared import view
from umbel.runtimes.turn import sentence
from umbel.wire import pack_parts, unpack

CLOCK_BYTES = 8
_STARVED = ("MemoryError", "allocate memory", "Unable to allocate", "Cannot allocate")


@final
@dataclass(frozen=True)
class SharedClock:
    """When the turn has to end, on a page that the parent writes; both processes read the same monotonic clock."""

    page: Any

    @property
    def ends_at_s(self) -> float:
        return struct.unpack("<d", self.page.tobytes())[0]


@final
class Child:
    """Answers what its parent asks.

    Args:
        born: what the parent said at the beginning.
        clock: where the parent keeps the deadline.
    """

    def __init__(self, app: App, born: Mapping[str, Any], clock: SharedClock) -> None:
        self._app, self._born, self._clock = app, born, clock
        self._host: Host | None = None

    def begin(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        born = self._born
        try:
            self._host = Host(
                self._app.client_fn,
                plan,
                born["name"],
                partition=born["partition"],
                threads=born["threads"],
                packages=[self._app.client_fn.__module__.split(".")[0]],
                clock=self._clock,
            )
        except UmbelError as error:
            return {"unwilling": str(error)}
        except BaseException as error:
            return {"failed": self._explained(sentence(error))}
        return {"facts": self._host.facts}

    def play(self, tree: Mapping[str, Any], blobs: Mapping[str, Arrays]) -> tuple[Answer, bytes | None]:
        assert self._host is not None
        memory = tree["memory"]
        letter = replace(read_letter(tree["letter"].data), mine=tree["mine"])
        try:
            answer, state = self._host.play(letter, blobs, None if memory is None else memory.tobytes())
        except KeyboardInterrupt as error:
            place = (letter.run, letter.round, letter.attempt, letter.kind, letter.client)
            answer, state = Answer(*place, verdict="failed", reason=sentence(error)), None
        return replace(answer, reason=self._explained(answer.reason)), state

    def _explained(self, reason: str) -> str:
        most = self._born["memory_gb"]
        if most is None or not any(word in reason for word in _STARVED):
            return reason
        return f"{reason} (the policy's limits.memory_gb is {most:g})"


def _bound(born: Mapping[str, Any]) -> None:
    """Keep to what the owner allows; the operating system sees to it, for this process and those it starts."""
    if born["memory_gb"] is not None:
        most = int(born["memory_gb"] * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if born["processors"] is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: born["processors"]])


def live(pipe: Pipe) -> None:
    """From birth to the end of the run."""
    frame, files = pipe.receive()
    born = unpack("job", frame, verify=False)
    clock = SharedClock(view(files[0], CLOCK_BYTES, write=True))
    os.close(files[0])
    try:
        _bound(born)
        child = Child(load_app(born["app"]), born, clock)
    except UmbelError as error:
        return pipe.send(pack_parts("done", {"failed": str(error)}, seal=False))
    except BaseException as error:
        return pipe.send(pack_parts("done", {"failed": sentence(error)}, seal=False))
    pipe.send(pack_parts("done", {"born": True}, seal=False))
    while True:
        frame, files = pipe.receive()
        tree = unpack("job", frame, verify=False)
        if tree["do"] == "begin":
            pipe.send(pack_parts("done", child.begin(tree["plan"]), seal=False))
            continue
        blobs = {digest: _mapped(*place) for digest, *place in zip(tree["digests"], files, tree["sizes"], strict=True)}
        answer, state = child.play(tree, blobs)
        del blobs
        _give(pipe, answer, state)


def _mapped(file: int, size: int) -> Arrays:
    arrays = Arrays.from_buffer(view(file, size))
    os.close(file)
    return arrays


def _give(pipe: Pipe, answer: Answer, state: bytes | None) -> None:
    parts, digest = seal_answer(answer)
    file, size = written(parts)
    try:
        found = {
            "verdict": answer.verdict,
            "reason": answer.reason,
            "size": size,
            "digest": digest,
            "state": None if state is None else np.frombuffer(state, np.uint8),
        }
        pipe.send(pack_parts("done", found, seal=False), [file])
    finally:
        os.close(file)


def main(file: int, parent: int) -> None:
    die_with(parent)
    # What a client prints is seen when it is printed, and is not lost with the process.
    sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]
    os.set_inheritable(file, False)
    pipe = Pipe(socket.socket(fileno=file))
    # A copy of this process that a client makes and lets run on must not answer, too.
    os.register_at_fork(after_in_child=pipe.close)
    try:
        live(pipe)
    except (EOFError, BrokenPipeError):
        return  # the parent has gone, or has no more work


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
