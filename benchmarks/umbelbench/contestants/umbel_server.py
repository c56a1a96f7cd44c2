"""A server of umbel's for load: prints its address, then a line of JSON per round, with its memory."""

import argparse
import json
import resource
from pathlib import Path

import numpy as np

import umbel as fl


def memory_bytes() -> int:
    """The process's own memory (proportional set size)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--certificates", nargs=3, type=Path)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    empty = [0]

    def ready(address: str) -> None:
        empty[0] = memory_bytes()
        print(json.dumps({"address": address}), flush=True)

    def config_fn(server_round: int) -> dict:
        if server_round == 1:  # all nodes are there, and nothing was sent yet
            print(json.dumps({"idle_bytes": memory_bytes() - empty[0]}), flush=True)
        return {}

    def observe(event: dict) -> None:
        if event["kind"] == "round":
            told = {"round": event["round"], "seconds": event["seconds"], "participants": event["participants"]}
            print(json.dumps(told), flush=True)

    fl.server.start_server(
        "127.0.0.1:0",
        config=fl.ServerConfig(
            num_rounds=options.rounds, min_available_clients=options.nodes, seed=1, fraction_evaluate=0.0
        ),
        initial_parameters=[np.zeros(options.parameters, np.float32)],
        on_fit_config_fn=config_fn,
        certificates=tuple(options.certificates) if options.certificates else None,
        ready=ready,
        progress=False,
        observers=[observe],
    )


if __name__ == "__main__":
    main()
