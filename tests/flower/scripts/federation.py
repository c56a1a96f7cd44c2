"""A server and two clients as separate programs: federation.py server ADDRESS | client ADDRESS INDEX."""

import sys
from logging import basicConfig

import flwr as fl
import numpy as np
from flwr.common import NDArrays, Scalar, ndarrays_to_parameters

basicConfig()


class Regression(fl.client.NumPyClient):
    def __init__(self, index: int) -> None:
        rng = np.random.default_rng(index)
        self.x = rng.normal(size=(40, 3))
        self.y = self.x @ np.array([1.0, -2.0, 0.5])
        self.w = np.zeros(3)

    def get_parameters(self, config: dict[str, Scalar]) -> NDArrays:
        return [self.w]

    def fit(self, parameters: NDArrays, config: dict[str, Scalar]):
        self.w = parameters[0]
        for _ in range(20):
            self.w = self.w - 0.1 * self.x.T @ (self.x @ self.w - self.y) / len(self.y)
        return self.get_parameters(config), len(self.y), {}

    def evaluate(self, parameters: NDArrays, config: dict[str, Scalar]):
        error = self.x @ parameters[0] - self.y
        return float((error**2).mean()), len(self.y), {"largest": float(np.abs(error).max())}


def main() -> None:
    role, address = sys.argv[1:3]
    if role == "client":
        fl.client.start_client(server_address=address, client=Regression(int(sys.argv[3])).to_client())
        return
    strategy = fl.server.strategy.FedAvg(
        min_fit_clients=2, min_available_clients=2, initial_parameters=ndarrays_to_parameters([np.zeros(3)])
    )
    history = fl.server.start_server(
        server_address=address, config=fl.server.ServerConfig(num_rounds=3), strategy=strategy
    )
    print("losses:", [round(loss, 6) for _, loss in history.losses_distributed])
    print("largest:", len(history.metrics_distributed["largest"]))


if __name__ == "__main__":
    main()
