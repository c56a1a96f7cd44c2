"""One server and many protocol nodes on one machine: connecting, memory at rest, rounds over all of them."""

import json
import subprocess
import tempfile
from pathlib import Path

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import Estimate, estimate
from umbelbench.options import Options

NAME = "fleet"
SERVER, NODES = "umbelbench.contestants.umbel_server", "umbelbench.fleet"


def one(value: float) -> Estimate:
    return Estimate(value, value, value, 1)


def play(options: Options, nodes: int, parameters: int, rounds: int, folder: Path | None = None) -> dict:
    """What a server and its nodes told: seconds to connect, bytes at rest, seconds per round."""
    certificates = (
        ["--certificates", *(str(folder / f"server-{n}.pem") for n in ("ca", "cert", "key"))] if folder else []
    )
    numbers = ["--nodes", str(nodes), "--parameters", str(parameters), "--rounds", str(rounds)]
    server = subprocess.Popen(
        [options.python, "-m", SERVER, *numbers, *certificates],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert server.stdout is not None
    address = json.loads(server.stdout.readline())["address"]
    who = ["--certificates", str(folder)] if folder else []
    load = subprocess.Popen(
        [options.python, "-m", NODES, address, str(nodes), *who], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert load.stdout is not None
    try:
        connected = json.loads(load.stdout.readline())["seconds"]
        told = [json.loads(line) for line in server.stdout]
        load.wait(timeout=60)
    finally:
        for process in (server, load):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    played = [line for line in told if "round" in line]
    assert len(played) == rounds, f"{len(played)} of {rounds} rounds were played"
    assert all(line["participants"] == nodes for line in played), "a node was left out"
    idle = next(line["idle_bytes"] for line in told if "idle_bytes" in line)
    return {"connected": connected, "idle": idle, "seconds": [line["seconds"] for line in played]}


def certified(options: Options, folder: Path, nodes: int) -> None:
    subprocess.run(
        [options.python, "-m", NODES, "make", str(nodes), "--certificates", str(folder)], check=True, env=environment()
    )


def run(options: Options) -> list[Row]:
    many, secured = (1_000, 200) if options.quick else (10_000, 2_000)
    plain = play(options, many, 2_500, 3 if options.quick else 7)
    rows = [
        Row(NAME, f"{many} nodes connect", one(plain["connected"]), "s", at_most=60.0),
        Row(NAME, "memory of an idle node, plaintext", one(plain["idle"] / many / 1000), "kB", at_most=60.0),
        Row(NAME, f"a round over {many}, 10 kB model", estimate(plain["seconds"][1:]), "s", at_most=8.0),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certified(options, folder, secured)
        tls = play(options, secured, 2_500, 2, folder)
    rows.append(Row(NAME, f"{secured} nodes connect, mutual TLS", one(tls["connected"]), "s"))
    rows.append(Row(NAME, "memory of an idle node, mutual TLS", one(tls["idle"] / secured / 1000), "kB", at_most=120.0))
    if not options.quick:
        wide = play(options, 1_000, 25_000, 7)
        rows.append(Row(NAME, "a round over 1,000, 100 kB model", estimate(wide["seconds"][1:]), "s", at_most=2.0))
    steady = play(options, 10, 250, 50 if options.quick else 300)
    rows.append(
        Row(
            NAME, "10 nodes, sustained", one(len(steady["seconds"]) / sum(steady["seconds"])), "rounds/s", at_least=12.0
        )
    )
    pair = play(options, 2, 250, 50 if options.quick else 200)
    rows.append(
        Row(
            NAME, "a round of 2 nodes, 1 kB model", estimate([s * 1e3 for s in pair["seconds"][2:]]), "ms", at_most=10.0
        )
    )
    return rows
