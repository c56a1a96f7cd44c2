"""Which devices a simulation's workers share, how much memory that takes, and whether they have it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence

from umbel.errors import ConfigError
from umbel.footprint import Footprint

OWN_BYTES = 512 * 2**20
"""What a process takes of a GPU before it holds any array: CUDA's context and kernels. An assumption."""


def named(device: str | Sequence[str]) -> tuple[str, ...]:
    """The devices that an argument names.

    Raises:
        ConfigError: it names none.
    """
    found = (device,) if isinstance(device, str) else tuple(device)
    if not found or not all(isinstance(name, str) and name for name in found):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(
            f'device must be a name such as "cpu" or "cuda:0", or several of them, got {device!r}; try device="cpu"'
        )
    return found


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
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= there:
        raise ConfigError(f'device {name!r} is not here: torch sees {there} CUDA devices; take device="cpu"')
    return torch.cuda.mem_get_info(name)[0]


def _free_host() -> int | None:
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") if hasattr(os, "sysconf") else None
