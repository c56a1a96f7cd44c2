"""A model of a gigabyte: how fast it travels between processes, and what a server's memory is for many nodes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import Estimate, estimate
from umbelbench.options import Options

NAME = "large"
SERVER, NODES, BARE = (
    "umbelbench.contestants.umbel_large",
    "umbelbench.fleet",
    "umbelbench.contestants.bare_grpc",
)
UPLOADS = 2
SPOOLED_GB = 0.5


def started(options: Options, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([options.python, "-m", *arguments], stdout=subprocess.PIPE, text=True, env=environment())


def ended(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def play(options: Options, parameters: int, nodes: int, rounds: int, *more: str) -> tuple[list[dict], list[dict]]:
    """What the server and its nodes told."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = ["--nodes", str(nodes), "--parameters", str(parameters), "--rounds", str(rounds)]
        server = started(options, SERVER, *numbers, "--store", str(Path(folder) / "runs.db"), *more)
        assert server.stdout is not None
        first = json.loads(server.stdout.readline())
        load = started(options, NODES, f"grpc://{first['address']}", str(nodes), "--noise")
        try:
            told = [first, *map(json.loads, server.stdout)]
            assert load.stdout is not None
            return told, [json.loads(line) for line in load.stdout]
        finally:
            ended(server, load)


def moments(told: list[dict], key: str) -> list[float]:
    return sorted(line[key] for line in told if key in line)


def bare_seconds(options: Options, size: int, times: int) -> list[float]:
    """Seconds for each transfer by gRPC alone."""
    server = started(options, BARE, "serve", str(size), str(times))
    assert server.stdout is not None
    address = json.loads(server.stdout.readline())["address"]
    sender = started(options, BARE, "send", address, str(size), str(times))
    try:
        return [json.loads(line)["seconds"] for line in server.stdout]
    finally:
        ended(server, sender)


def above_idle(told: list[dict]) -> int:
    """The server's anonymous memory above what it had before it had a model, in bytes."""
    return next(line["peak_bytes"] for line in told if "peak_bytes" in line) - told[0]["idle_bytes"]


def one(value: float) -> Estimate:
    return Estimate(value, value, value, 1)


def run(options: Options) -> list[Row]:
    parameters = 2**24 if options.quick else 2**28
    size, rounds = 4 * parameters, 2 if options.quick else 4
    told, nodes = play(options, parameters, 1, rounds)
    bare = bare_seconds(options, size, rounds)
    down = [here - asked for asked, here in zip(moments(told, "asked"), moments(nodes, "here"), strict=True)]
    up = [came - sent for sent, came in zip(moments(nodes, "sent"), moments(told, "came"), strict=True)]
    fastest = estimate(bare).median
    rows = [
        Row(NAME, "bare gRPC, the same chunks", estimate([size / s / 1e6 for s in bare]), "MB/s"),
        Row(NAME, "model down, of bare gRPC", estimate([fastest / s for s in down]), at_least=0.5, bounded=True),
        Row(NAME, "update up, of bare gRPC", estimate([fastest / s for s in up]), at_least=0.5, bounded=True),
    ]
    # In models: the sums, and the uploads that are held; None is spooled. What a server needs beside is measured with
    # them.
    kinds = {
        "FedAvg": ((), 4 + UPLOADS, (2, 8, 32)),
        "Mean(exact=False)": (("--reducer", "plain"), 2 + UPLOADS, (2, 8, 32)),
        "FedAdam": (("--server", "adam"), 4 + UPLOADS, (8,)),
        "spooled": (("--spool",), None, (2, 8, 32)),
        "spooled Median": (("--reducer", "median", "--spool"), None, (8,)),
    }
    for kind, (more, most, counts) in kinds.items():
        for there in counts[:1] if options.quick else counts:
            told, _ = play(options, parameters, there, 1, *more)
            what, found = f"server's memory, {kind}, {there} nodes", above_idle(told)
            if most is None:
                rows.append(Row(NAME, what, one(found / 1e9), "GB", at_most=SPOOLED_GB))
            else:
                rows.append(Row(NAME, what, one(found / size), "models", at_most=most + 0.2))
            # One play takes minutes.
            print(f"{what}: {found / size:.2f} models, {found / 1e9:.2f} GB", file=sys.stderr, flush=True)
    return rows
