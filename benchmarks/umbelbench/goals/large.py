"""A model of a gigabyte: how fast it travels between processes, and what a server's memory is for many nodes."""

import json
import subprocess
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


def models(told: list[dict], size: int) -> float:
    """The server's anonymous memory above what it had before it had a model, in models."""
    peak = next(line["peak_bytes"] for line in told if "peak_bytes" in line)
    return (peak - told[0]["idle_bytes"]) / size


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
    few = (2,) if options.quick else (2, 8, 32)
    # In models: the sums, and the uploads that are held. What a server needs beside is measured with them.
    kinds = {
        "FedAvg": ((), 4 + UPLOADS),
        "Mean(exact=False)": (("--reducer", "plain"), 2 + UPLOADS),
        "FedAdam": (("--server", "adam"), 4 + UPLOADS),
        "spooled": (("--spool",), 0.5),
        "spooled Median": (("--reducer", "median", "--spool"), 0.5),
    }
    for kind, (more, most) in kinds.items():
        for nodes_there in few:
            told, _ = play(options, parameters, nodes_there, 1, *more)
            rows.append(
                Row(
                    NAME,
                    f"server's memory, {kind}, {nodes_there} nodes",
                    one(models(told, size)),
                    "models",
                    at_most=most + 0.2,
                )
            )
    return rows
