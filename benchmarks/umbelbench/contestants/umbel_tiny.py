"""The tiny task in Umbel: `--form source` gives `TorchClients`, `built` a `TorchClient` for each client."""

import argparse

import torch

import umbel as fl
from umbel.coordinators.population import Everyone, cohort_key
from umbelbench import tiny
from umbelbench.gate import Gate


def sgd(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=tiny.LEARNING_RATE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--form", choices=["source", "built"], required=True)
    parser.add_argument("--engine", default="vmap")
    parser.add_argument("--cohort", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    gate = Gate()
    torch.set_num_threads(1)
    x, y = (torch.from_numpy(column) for column in tiny.table())
    model, loss = torch.nn.Linear(tiny.FEATURES, tiny.CLASSES), torch.nn.CrossEntropyLoss()

    def build(context: fl.Context) -> fl.TorchClient:
        mine = slice(*tiny.rows(context.partition_id)[[0, -1]] + [0, 1])
        return fl.TorchClient(model, loss, sgd, (x[mine], y[mine]), batch_size=tiny.BATCH, shuffle=False)

    source = fl.TorchClients(model, loss, sgd, (x, y), tiny.rows, batch_size=tiny.BATCH, shuffle=False)

    def opens(round_number: int) -> dict:
        gate.wait()
        return {}

    config = fl.ServerConfig(
        num_rounds=options.rounds,
        fraction_fit=options.cohort / tiny.POPULATION,
        fraction_evaluate=0.0,
        seed=1,
    )
    history = fl.simulate(
        source if options.form == "source" else build,
        num_clients=tiny.POPULATION,
        config=config,
        initial_parameters=tiny.initial_parameters(),
        engine=options.engine,
        workers=options.workers,
        on_fit_config_fn=opens,
        progress=False,
    )
    # Who was asked follows from the seed alone.
    everyone = Everyone(tiny.POPULATION)
    keys = (cohort_key(1, number, 0, "fit") for number in range(1, options.rounds + 1))
    cohorts = [[int(client) for client in everyone.sample(key, options.cohort)] for key in keys]
    gate.finish(options.result, [history.parameters["weight"], history.parameters["bias"]], cohorts)


if __name__ == "__main__":
    main()
