"""Twenty simulated clients, which are handed a context, keep count of their turns in it, and share a starting model."""

import flwr as fl
import numpy as np
from flwr.client import Client, NumPyClient
from flwr.common import Context, FitIns, FitRes, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.typing import Code, Status


class Mean(NumPyClient):
    def __init__(self, value: float, state: dict) -> None:
        self.value, self.state = value, state

    def fit(self, parameters, config):
        self.state["turns"] = self.state.get("turns", 0) + 1
        return [parameters[0] + 0.5 * (self.value - parameters[0])], 10, {"turns": self.state["turns"]}


class InMessages(Client):
    """The same, written with messages."""

    def __init__(self, value: float) -> None:
        self.value = value

    def fit(self, ins: FitIns) -> FitRes:
        (w,) = parameters_to_ndarrays(ins.parameters)
        new = ndarrays_to_parameters([w + 0.5 * (self.value - w)])
        return FitRes(Status(Code.OK, ""), new, num_examples=10, metrics={})


def client_fn(context: Context):
    index = context.node_config["partition-id"]
    assert context.node_config["num-partitions"] == 20
    return InMessages(index).to_client() if index % 2 else Mean(index, context.state).to_client()


strategy = fl.server.strategy.FedAvg(
    fraction_fit=1.0,
    initial_parameters=ndarrays_to_parameters([np.zeros(1)]),
    evaluate_fn=lambda server_round, parameters, config: (abs(float(parameters[0][0]) - 9.5), {"w": parameters[0][0]}),
)
history = fl.simulation.start_simulation(
    client_fn=client_fn,
    num_clients=20,
    config=fl.server.ServerConfig(num_rounds=4),
    strategy=strategy,
    client_resources={"num_cpus": 1, "num_gpus": 0.0},
)
print("losses:", history.losses_centralized)
print("turns:", history.metrics_distributed_fit["turns"])
assert history.losses_distributed == []
