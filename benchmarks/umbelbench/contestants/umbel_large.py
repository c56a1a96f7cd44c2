"""A server of umbel's for a large model: prints its address, then lines of JSON: transfers, rounds, its peak."""

import argparse
import json
import threading
import time
from pathlib import Path

import numpy as np

import umbel as fl
from umbel.arrays import Arrays
from umbel.runtimes.server.desk import Desk
from umbel.runtimes.server.events import Deliver
from umbel.runtimes.server.lead import Leader


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("this system does not tell a process's anonymous memory")


class Peak(threading.Thread):
    """The largest that was seen, looked at every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0

    def run(self) -> None:
        while True:
            self.bytes = max(self.bytes, anonymous_bytes())
            time.sleep(0.003)


def tell(**line: object) -> None:
    print(json.dumps(line), flush=True)


def timed() -> None:
    """Tell when asks go out and when answers are whole."""
    do, came = Desk.do, Leader.came

    def told_do(self, run, command):
        if isinstance(command, Deliver):
            tell(asked=time.time(), client=command.client)
        do(self, run, command)

    def told_came(self, node, data, token):
        tell(came=time.time(), client=node.name)
        came(self, node, data, token)

    Desk.do, Leader.came = told_do, told_came


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--reducer", choices=["ladder", "plain", "median"], default="ladder")
    parser.add_argument("--server", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--spool", action="store_true")
    options = parser.parse_args()
    timed()
    peak = Peak()

    def ready(address: str) -> None:
        tell(address=address, idle_bytes=anonymous_bytes())

    def config_fn(server_round: int) -> dict:
        if server_round == 1:  # the model is on disk now, and what it was made of is gone
            peak.start()
        return {}

    def observe(event: dict) -> None:
        if event["kind"] == "round":
            tell(round=event["round"], seconds=event["seconds"], participants=event["participants"])

    reducers = {"ladder": fl.Mean(), "plain": fl.Mean(exact=False), "median": fl.Median()}
    fl.server.start_server(
        "grpc://127.0.0.1:0",
        strategy=fl.FedAvg(
            reducer=reducers[options.reducer], server=fl.adam() if options.server == "adam" else fl.sgd()
        ),
        config=fl.ServerConfig(
            num_rounds=options.rounds, min_available_clients=options.nodes, seed=1, fraction_evaluate=0.0
        ),
        initial_parameters=Arrays.of({"w": np.zeros(options.parameters, np.float32)}),
        on_fit_config_fn=config_fn,
        store=options.store,
        ready=ready,
        progress=False,
        observers=[observe],
        **({"spool": True} if options.spool else {}),
    )
    tell(peak_bytes=peak.bytes)


if __name__ == "__main__":
    main()
