"""Which devices a simulation's workers share, how much memory that takes, and whether they have it."""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, cast

from umbel.errors import ConfigError
from umbel.footprint import Footprint

KINDS = ("cuda", "mps", "xpu", "gpu", "tpu", "rocm")
"""Names that are right and may not be here."""
OWN_BYTES = 512 * 2**20
"""What a process takes of a GPU before it holds any array: CUDA's context and kernels. An assumption."""


def named(device: str | Sequence[str]) -> tuple[str, ...]:
    """The devices that an argument names.

    Raises:
        ConfigError: it names none.
    """
    several = isinstance(device, Sequence) and not isinstance(device, (str, bytes))  # pyright: ignore[reportUnnecessaryIsInstance]
    found = tuple(device) if several else (device,)
    if not found or not all(isinstance(name, str) and name for name in found):
        raise ConfigError(
            f'device must be a name such as "cpu" or "cuda:0", or several of them, got {device!r}; try device="cpu"'
        )
    return cast("tuple[str, ...]", found)


def check_there(names: Sequence[str]) -> None:
    """Refuse devices that this machine does not have. Torch is asked where it is installed, JAX where it is in use.

    Raises:
        ConfigError: names the first, and what there is.
    """
    for name in dict.fromkeys(names):
        if name == "meta":
            continue  # torch's stand-in, on which a program looks at shapes
        kind, _, number = name.partition(":")
        seen = _seen(kind)
        if seen is None or (number and not (number.isascii() and number.isdecimal())):
            raise ConfigError(
                f'device must be "cpu", "cuda", "cuda:1", "mps" or another that torch or JAX knows, got {name!r}; '
                'take device="cpu"'
            )
        if kind != "cpu" and int(number or 0) >= seen:
            said = f"torch sees {seen} CUDA devices" if kind == "cuda" else f"torch and JAX see {seen} {kind} devices"
            raise ConfigError(f'device {name!r} is not here: {said}; take device="cpu"')


def _seen(kind: str) -> int | None:
    """How many devices of a kind there are; None if there is no such kind."""
    if kind == "cpu":
        return 1
    counts = [count for count in (_seen_by_torch(kind), _seen_by_jax(kind)) if count is not None]
    return max(counts, default=0 if kind in KINDS else None)


def _seen_by_torch(kind: str) -> int | None:
    if find_spec("torch") is None:
        return None
    torch: Any = importlib.import_module("torch")
    part: Any = getattr(torch, kind, None)
    if not (hasattr(part, "device_count") and hasattr(part, "is_available")) and kind != "mps":
        return None
    available = torch.backends.mps.is_available() if kind == "mps" else part.is_available()
    return int(part.device_count()) if available else 0


def _seen_by_jax(kind: str) -> int | None:
    jax: Any = sys.modules.get("jax")
    try:
        return None if jax is None else len(jax.devices("gpu" if kind == "cuda" else kind))
    except RuntimeError:
        return None


def check_memory(
    footprint: Footprint | None,
    devices: Sequence[str],
    workers: int,
    block: int,
    free: Callable[[str], int | None] | None = None,
) -> list[str]:
    """What to say of the devices' memory before the first round, one sentence for each device.

    Args:
        footprint: of one client; None where it cannot be told.
        devices: names, which workers take in turn.
        workers: how many processes train at once.
        block: how many clients train together in each.
        free: bytes that a device has free, None where that cannot be seen; None asks the machine.

    Raises:
        ConfigError: a device is not there, or has less memory than its workers need.
    """
    share = Counter(devices[worker % len(devices)] for worker in range(workers))
    return [_sentence(footprint, name, count, block, (free or free_bytes)(name)) for name, count in share.items()]


def _sentence(footprint: Footprint | None, name: str, workers: int, block: int, free: int | None) -> str:
    there = "" if free is None else f", {_gib(free)} are free"
    if footprint is None:
        return f"{name} is shared by {workers} workers{there}; how much memory they need is not known for such clients"
    own = OWN_BYTES if name.startswith("cuda") else 0
    each = footprint.of(block) + own
    need = f"{workers} workers need about {_gib(workers * each)} of {name} ({_parts(footprint, block, own)}){there}"
    if free is not None and workers * each > free:
        most = free // each
        advice = f"workers={most}, " if most else ""
        smaller = "a smaller block or batch_size" if block > 1 else "a smaller batch_size"
        raise ConfigError(f"{need}; what they need must be free: take {advice}{smaller} or more devices")
    return need


def _parts(footprint: Footprint, block: int, own: int) -> str:
    """The formula, with its numbers."""
    inner = " + ".join(
        f"{what} {_gib(size)}"
        for what, size in (
            ("model", footprint.model),
            ("gradients", footprint.gradients),
            ("optimizer", footprint.optimizer),
            ("activations", footprint.activations),
            ("batch", footprint.batch),
        )
    )
    clients = f"{block} clients of ({inner})" if block > 1 else inner
    return f"each the model once more, {_gib(footprint.model)}, and {clients}" + (f" + {_gib(own)}" if own else "")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.2f} MiB"


def free_bytes(name: str) -> int | None:
    """Bytes that a device has free; None where that cannot be seen.

    Raises:
        ConfigError: there is no such CUDA device here.
    """
    kind, _, number = name.partition(":")
    if kind == "cpu":
        return _free_host()
    if kind != "cuda":
        return None
    check_there([name])
    if int(number or 0) >= (_seen_by_torch(kind) or 0):
        return None  # JAX alone has it
    import torch

    return torch.cuda.mem_get_info(name)[0]


def _free_host() -> int | None:
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") if hasattr(os, "sysconf") else None
