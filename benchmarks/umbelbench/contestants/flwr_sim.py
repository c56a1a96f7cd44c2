"""Flower's simulation, run with its own strategy and client classes; only the gate and a cohort report are added.

`--api run` uses `run_simulation` with a ServerApp and a ClientApp, `--api start` the older `start_simulation`.
"""

import argparse
import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import flwr
import numpy as np
from flwr.client import NumPyClient
from flwr.common import Context, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg

from umbelbench.gate import Gate


class Noop(NumPyClient):
    def __init__(self, client: int) -> None:
        self.client = client

    def fit(self, parameters, config):
        return parameters, 1, {"client": self.client}


def training_client(name: str):
    """A client that trains on the task of that name; the model is built once a process, as in other contestants."""

    def client_fn(context: Context):
        import torch

        from umbelbench import loops, task

        class Trained(loops.UserLoop, NumPyClient):
            def fit(self, parameters, config):
                new, samples, _ = super().fit(parameters, config)
                return new, samples, {"client": client}

        torch.set_num_threads(1)
        if not hasattr(loops, "process_model"):
            loops.process_model = task.named(name).net()
        client = int(context.node_config["partition-id"])
        return Trained(task.named(name), client, loops.process_model).to_client()

    return client_fn


def noop_client(context: Context):
    return Noop(int(context.node_config["partition-id"])).to_client()


class Reported(FedAvg):
    """FedAvg that keeps the last model and who took part."""

    def __init__(self, *, keep_models: bool, **settings) -> None:
        super().__init__(**settings)
        self.last, self.cohorts, self.models, self._keep = None, [], [], keep_models

    def aggregate_fit(self, server_round, results, failures):
        self.cohorts.append(sorted(int(result.metrics["client"]) for _, result in results))
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        self.last = parameters
        if self._keep:
            self.models.append(np.concatenate([array.ravel() for array in parameters_to_ndarrays(parameters)]))
        return parameters, metrics


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True, help="noop, or the name of a task to train")
    parser.add_argument("--api", choices=["run", "start"], default="run")
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--cohort", type=int, default=100)
    parser.add_argument("--parameters", type=int, default=1_000)
    parser.add_argument("--keep-models", action="store_true", help="hand back the model after every round")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    gate = Gate()
    if options.work != "noop":
        from umbelbench.task import named

        client_fn, start = training_client(options.work), named(options.work).initial_parameters()
    else:
        client_fn, start = noop_client, [np.zeros(options.parameters, np.float32)]

    def opens(_round: int) -> dict:
        gate.wait()
        return {}

    strategy = Reported(
        keep_models=options.keep_models,
        fraction_fit=options.cohort / options.clients,
        min_fit_clients=options.cohort,
        fraction_evaluate=0.0,
        min_available_clients=options.clients,
        initial_parameters=ndarrays_to_parameters(start),
        on_fit_config_fn=opens,
        fit_metrics_aggregation_fn=lambda metrics: {},
    )
    config = ServerConfig(num_rounds=options.rounds)
    resources = {"num_cpus": 1, "num_gpus": 0.0}
    ray = {"num_cpus": 2, "include_dashboard": False}
    if options.api == "start":
        flwr.simulation.start_simulation(
            client_fn=client_fn, num_clients=options.clients, client_resources=resources,
            config=config, strategy=strategy, ray_init_args=ray,
        )  # fmt: skip
    else:
        flwr.simulation.run_simulation(
            server_app=flwr.server.ServerApp(
                server_fn=lambda context: ServerAppComponents(strategy=strategy, config=config)
            ),
            client_app=flwr.client.ClientApp(client_fn=client_fn),
            num_supernodes=options.clients,
            backend_config={"client_resources": resources, "init_args": ray},
        )
    gate.finish(options.result, parameters_to_ndarrays(strategy.last), strategy.cohorts, strategy.models)


if __name__ == "__main__":
    main()
