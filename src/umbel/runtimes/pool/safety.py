"""Whether a process may be forked: only where no other thread holds what the child would wait for."""

from __future__ import annotations

import os
import sys
import threading

UNFORKABLE = ("grpc", "jax", "polars", "ray", "tensorflow")
"""Libraries whose own threads do not live through a fork."""


def why_not_fork() -> str | None:
    """Why this process must not be forked, or None."""
    for name in UNFORKABLE:
        if name in sys.modules:
            return f"{name} is imported"
    return _why_not()


def why_not_seed() -> str | None:
    """The same of a process that has done nothing but load an app: a library is safe that has started no threads."""
    for name in UNFORKABLE:
        if name in sys.modules and _threads() != 1:
            return f"{name} has started threads"
    return _why_not()


def _why_not() -> str | None:
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        return "CUDA is in use"
    if threading.active_count() > 1:
        return f"{threading.active_count()} Python threads are alive"
    if not sys.platform.startswith("linux"):
        return "only on Linux can it be seen that other threads are idle"
    return None if _others_sleep() else "other threads are at work"


def _threads() -> int | None:
    """How many threads of the operating system's this process has; None where that cannot be seen."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return None


def _others_sleep() -> bool:
    """Whether all other threads of this process (those of BLAS and OpenMP) are asleep."""
    own = threading.get_native_id()
    for name in os.listdir("/proc/self/task"):
        if int(name) == own:
            continue
        try:
            with open(f"/proc/self/task/{name}/stat") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "S":
            return False
    return True
