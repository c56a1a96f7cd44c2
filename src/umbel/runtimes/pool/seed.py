"""The seed: a small process without threads, in which the app is loaded once and from which workers are forked.

Used where this process cannot be forked (a notebook, CUDA, gRPC). The program travels to it pickled; functions that
live in a notebook or script travel by value, which needs cloudpickle. Where loading the app starts threads (JAX does so
with its first array) another seed takes over that has not loaded it: there each worker does so itself.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import subprocess
import sys
from typing import Any, final

from umbel.errors import EngineError, said
from umbel.runtimes.pool.safety import why_not_seed
from umbel.runtimes.pool.worker import Descriptors, main
from umbel.runtimes.program import Program

_LENGTH = struct.Struct("<Q")
_REPLY = struct.Struct("<qq")
READY = b"ready"
THREADS = b"threads"
HEAVY = ("torch", "sklearn", "pandas", "jax")
"""What a seed imports before the app; none of these starts threads by that."""


def dump(program: Program) -> bytes:
    """The program as bytes, by value where needed.

    Raises:
        EngineError: something in it cannot be pickled; says what to do.
    """
    try:
        import cloudpickle

        return cloudpickle.dumps(program)
    except ImportError:
        pass
    except Exception as error:
        raise EngineError(_advice(error)) from error
    try:
        if getattr(program.client_fn, "__module__", "") == "__main__":
            raise pickle.PicklingError("client_fn lives in the main script")
        return pickle.dumps(program)
    except Exception as error:
        raise EngineError(f"{_advice(error)}, or pip install 'umbel[notebook]' (cloudpickle)") from error


def _advice(error: Exception) -> str:
    return (
        f"client_fn cannot be sent to worker processes ({type(error).__name__}: {error}); load data inside client_fn "
        'instead of closing over open files, locks or loaders, use engine="serial"'
    )


@final
class Seed:
    """The parent's handle on the seed process."""

    def __init__(self, program: Program) -> None:
        payload = dump(program)
        if self._begin(payload, whole=True) == THREADS:
            self.close()
            self._begin(payload, whole=False)

    def _begin(self, payload: bytes, *, whole: bool) -> bytes:
        """Start the process; returns what it says.

        Args:
            whole: it loads the app, not each of its workers.

        Raises:
            EngineError: it ends, or cannot load the app.
        """
        self._socket, theirs = socket.socketpair()
        code = f"from umbel.runtimes.pool.seed import grow; grow({theirs.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            start_new_session=True,
        )
        theirs.close()
        heavy = [name for name in HEAVY if name in sys.modules]
        head = pickle.dumps({"path": sys.path, "heavy": heavy, "whole": whole})
        try:
            for part in (head, payload):
                self._socket.sendall(_LENGTH.pack(len(part)) + part)
            answer = _receive(self._socket)
        except (OSError, EOFError):
            raise EngineError(
                "the process from which workers are forked ended at once; see its message above"
            ) from None
        if answer not in (READY, THREADS):
            raise EngineError(f"workers cannot load the app: {answer.decode(errors='replace')}")
        return answer

    def bear(self, index: int, fds: Descriptors) -> int:
        try:
            socket.send_fds(self._socket, [_LENGTH.pack(index)], fds.all())
            return _REPLY.unpack(_exactly(self._socket, _REPLY.size))[0]
        except (OSError, EOFError):
            raise EngineError("the process from which workers are forked is gone") from None

    def bury(self, pid: int) -> int:
        try:
            socket.send_fds(self._socket, [_LENGTH.pack(pid)], [])
            return _REPLY.unpack(_exactly(self._socket, _REPLY.size))[1]
        except (OSError, EOFError):
            return 0

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _exactly(source: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = source.recv(min(count, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _receive(source: socket.socket) -> bytes:
    return _exactly(source, _LENGTH.unpack(_exactly(source, _LENGTH.size))[0])


def grow(fd: int) -> None:
    """The seed's own life: load the app, then fork a worker or wait for a dead one, as asked."""
    import importlib
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=fd) as parent:
        head: dict[str, Any] = pickle.loads(_receive(parent))
        payload = _receive(parent)
        try:
            sys.path[:] = head["path"]
            for name in head["heavy"]:
                importlib.import_module(name)
            loaded: Program | bytes = pickle.loads(payload) if head["whole"] else payload
        except BaseException as error:
            text = f"{type(error).__name__}: {said(error)}".encode()
            parent.sendall(_LENGTH.pack(len(text)) + text)
            return
        word = THREADS if head["whole"] and why_not_seed() is not None else READY
        parent.sendall(_LENGTH.pack(len(word)) + word)
        while _serve(parent, loaded):
            pass


def _serve(parent: socket.socket, loaded: Program | bytes) -> bool:
    message, fds, _, _ = socket.recv_fds(parent, _LENGTH.size, 5)
    if len(message) < _LENGTH.size:
        return False
    number = _LENGTH.unpack(message)[0]
    if not fds:
        parent.sendall(_REPLY.pack(0, os.waitpid(number, 0)[1]))
        return True
    seed, pid = os.getpid(), os.fork()
    if pid == 0:
        parent.close()
        main(number, loaded, Descriptors(*fds), seed)
    for fd in fds:
        os.close(fd)
    parent.sendall(_REPLY.pack(pid, 0))
    return True
