"""How many threads numeric libraries may use: equal bits need equal threads."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

_SET = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
)
_limits: dict[str, int] = {}


def one_thread_each(threads: int | None) -> None:
    """Let NumPy's BLAS and (if imported) torch use `threads` threads from now on; None leaves them as they are."""
    if threads is None:
        return
    if _limits.get("blas") != threads:
        for set_threads in _blas():
            set_threads(threads)
        _limits["blas"] = threads
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads") and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@contextmanager
def threads_restored() -> Generator[None]:
    """Give back torch's and BLAS's number of threads afterwards."""
    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if hasattr(torch, "get_num_threads") else None
    counts = [get() for get in _blas_getters()]
    try:
        yield
    finally:
        if torch is not None and before is not None:
            torch.set_num_threads(before)
        for set_threads, count in zip(_blas(), counts, strict=False):
            set_threads(count)
        _limits.clear()


@cache
def _libraries() -> tuple[Any, ...]:
    """The BLAS libraries that this process has mapped."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split()[-1] for line in maps if "openblas" in line or "libmkl_rt" in line}
    except OSError:
        return ()
    return tuple(ctypes.CDLL(path) for path in sorted(paths) if path.startswith("/"))


@cache
def _blas() -> tuple[Any, ...]:
    return tuple(f for library in _libraries() for name in _SET if (f := getattr(library, name, None)) is not None)


@cache
def _blas_getters() -> tuple[Any, ...]:
    names = [name.replace("set_num", "get_num").replace("Set_Num", "Get_Max") for name in _SET]
    return tuple(f for library in _libraries() for name in names if (f := getattr(library, name, None)) is not None)
