"""What a machine is doing right now, as far as it can be read: the facts that a policy's `[when]` judges."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

POWER = Path("/sys/class/power_supply")
_METERED = (
    *("busctl", "get-property", "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"),
    *("org.freedesktop.NetworkManager", "Metered"),
)
# NetworkManager's numbers: 1 and 3 are metered for sure and by a guess, 2 and 4 are not.
_IS_UNMETERED = {"u 1": False, "u 2": True, "u 3": False, "u 4": True}
PATIENCE_S = 2.0


@final
@dataclass(frozen=True)
class Conditions:
    """A moment. None is what cannot be read here.

    Attributes:
        date: the local day, "2027-01-31"; `weekday` is 0 on Mondays, `minute` counts from midnight.
        load: runnable processes per processor, averaged over a minute.
        charging: on mains, or without a battery.
        unmetered: the network costs nothing by the byte.
    """

    date: str
    weekday: int
    minute: int
    load: float | None = None
    charging: bool | None = None
    unmetered: bool | None = None


def read_conditions() -> Conditions:
    """Look at the clock, the load, the power supplies and NetworkManager. May take a second."""
    now = time.localtime()
    return Conditions(
        date=time.strftime("%Y-%m-%d", now),
        weekday=now.tm_wday,
        minute=60 * now.tm_hour + now.tm_min,
        load=_load(),
        charging=read_charging(POWER),
        unmetered=_IS_UNMETERED.get(_metered()),
    )


def _load() -> float | None:
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):  # not every system has it
        return None


def read_charging(folder: Path) -> bool | None:
    """Whether the power supplies that Linux shows in `folder` feed the machine."""
    try:
        supplies = [_supply(path) for path in sorted(folder.iterdir())]
    except OSError:
        return None
    # A mouse has a battery, too.
    own = [supply for supply in supplies if supply["scope"] != "Device"]
    if any(supply["type"] != "Battery" and supply["online"] == "1" for supply in own):
        return True
    batteries = [supply for supply in own if supply["type"] == "Battery"]
    return all(supply["status"] in ("Charging", "Full", "Not charging") for supply in batteries)


def _supply(path: Path) -> dict[str, str]:
    return {name: _text(path / name) for name in ("type", "online", "status", "scope")}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _metered() -> str:
    program = shutil.which(_METERED[0])
    if program is None:
        return ""
    try:
        ran = subprocess.run([program, *_METERED[1:]], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip()
