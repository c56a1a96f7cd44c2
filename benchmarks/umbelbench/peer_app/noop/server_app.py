"""FedAvg over two clients; notes when each round begins, in the file that UMBEL_BENCH_STAMPS names."""

import os
import time

import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg


def stamp(server_round):
    with open(os.environ["UMBEL_BENCH_STAMPS"], "a") as file:
        file.write(f"{time.perf_counter()}\n")
    return {}


def server_fn(context):
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_available_clients=2,
        on_fit_config_fn=stamp,
        initial_parameters=ndarrays_to_parameters([np.zeros(250, np.float32)]),
    )
    rounds = int(context.run_config["num-server-rounds"])
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds))


app = ServerApp(server_fn=server_fn)
