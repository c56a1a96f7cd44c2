"""Check-ins per second of one server process, and what that means for ten and fifty million devices."""

import json
import math
import subprocess
import tempfile
from pathlib import Path

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.goals.fleet import certified, one
from umbelbench.options import Options

NAME = "checkin"
MODULE = "umbelbench.checkin"
DEVICES = (10_000_000, 50_000_000)
INTERVALS_S = (3600, 6 * 3600, 24 * 3600)


def play(options: Options, seconds: float, folder: Path | None = None, *, resume: bool = False) -> dict:
    """Check-ins per second, per second of the server's processor, and bytes of each."""
    who = ["--certificates", str(folder)] if folder else []
    server = subprocess.Popen(
        [options.python, "-m", MODULE, "server", *who],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None

    def asked() -> dict:
        server.stdin.write("\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    try:
        address = json.loads(server.stdout.readline())["address"]
        before = asked()
        load = subprocess.run(
            [options.python, "-m", MODULE, "load", address, str(seconds), *who, *(["--resume"] if resume else [])],
            stdout=subprocess.PIPE, text=True, env=environment(), check=True, timeout=seconds + 60,
        )  # fmt: skip
        after = asked()
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()
    told = json.loads(load.stdout)
    assert after["check_ins"] - before["check_ins"] == told["count"], "a check-in was lost"
    if resume:
        assert told["resumed"] >= 0.9 * told["count"], (
            f"only {told['resumed']} of {told['count']} sessions were resumed"
        )
    return {
        "per_s": told["count"] / told["seconds"],
        "per_cpu_s": told["count"] / (after["cpu_s"] - before["cpu_s"]),
        "bytes": told["bytes"],
    }


def arithmetic(how: str, measured: dict) -> list[str]:
    """What a rate means, in sentences: devices / rate = how often each comes to one process.

    A process that has a core to itself does `per_cpu_s`; the load here takes its share of the same machine.
    """
    rate, size = measured["per_cpu_s"], measured["bytes"]
    lines = [f"{how}: {rate:.0f} check-ins/s of a process with a core to itself, {size:.0f} bytes each"]
    for devices in DEVICES:
        alone_h = devices / rate / 3600
        processes = ", ".join(f"{math.ceil(devices / s / rate)} for every {s // 3600} h" for s in INTERVALS_S)
        traffic = devices * size / 1e9
        lines.append(
            f"  {devices // 10**6} M devices: one process hears of each every {alone_h:.1f} h; processes: {processes}; "
            f"{traffic:.0f} GB each time that all check in"
        )
    return lines


def run(options: Options) -> list[Row]:
    seconds = 3.0 if options.quick else 10.0
    found = {"plaintext": play(options, seconds)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certified(options, folder, 8)
        found["mutual TLS, full handshakes"] = play(options, seconds, folder)
        found["mutual TLS, resumed sessions"] = play(options, seconds, folder, resume=True)
    rows = []
    for how, measured in found.items():
        print("\n".join(arithmetic(how, measured)), flush=True)
        rows += [
            Row(NAME, f"check-ins, {how}", one(measured["per_s"]), "/s"),
            Row(NAME, f"of the server's processor, {how}", one(measured["per_cpu_s"]), "/s"),
            Row(NAME, f"bytes of a check-in, {how}", one(measured["bytes"]), "bytes"),
        ]
    return rows
