"""FedAvg with a learning rate that falls, its own means of metrics, and clients that are told apart by `cid`."""

from typing import List, Tuple  # noqa: UP035 (as older scripts have it)

import flwr as fl
import numpy as np
from flwr.common import Metrics
from flwr.server.strategy import FedAvg


def weighted_average(metrics: List[Tuple[int, Metrics]]) -> Metrics:  # noqa: UP006
    accuracies = [num_examples * m["accuracy"] for num_examples, m in metrics]
    return {"accuracy": sum(accuracies) / sum(num_examples for num_examples, _ in metrics), "clients": len(metrics)}


def fit_config(server_round: int):
    return {"lr": 0.5 if server_round < 3 else 0.25, "local_epochs": 2}


class Scores(fl.client.NumPyClient):
    def __init__(self, number):
        self.number = number

    def get_parameters(self, config):
        return [np.zeros((2, 2), dtype=np.float32), np.ones(3, dtype=np.float32)]

    def fit(self, parameters, config):
        assert config["local_epochs"] == 2
        return [p + np.float32(config["lr"]) for p in parameters], self.number, {"lr": config["lr"]}

    def evaluate(self, parameters, config):
        return float(parameters[0][0, 0]), self.number, {"accuracy": 1.0 / self.number}


strategy = FedAvg(
    fraction_fit=1.0,
    fraction_evaluate=1.0,
    min_fit_clients=4,
    min_evaluate_clients=4,
    min_available_clients=4,
    on_fit_config_fn=fit_config,
    evaluate_metrics_aggregation_fn=weighted_average,
)
history = fl.simulation.start_simulation(
    client_fn=lambda cid: Scores(int(cid) + 1), num_clients=4, config={"num_rounds": 3}, strategy=strategy
)
print("losses:", history.losses_distributed)
print("accuracy:", history.metrics_distributed["accuracy"])
print("clients:", history.metrics_distributed["clients"])
