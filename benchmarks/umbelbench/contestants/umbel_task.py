"""A training task in Umbel's simulation, through its public API.

`--form source` gives `TorchClients`, `built` a `TorchClient` for each client, `linear` `LinearClients` (logistic
regression alone).
"""

import argparse
import hashlib

import numpy as np
import torch

import umbel as fl
from umbel.coordinators.population import Everyone, cohort_key
from umbelbench.gate import Gate
from umbelbench.task import Task, named

SEED = 1


def clients(task: Task, form: str):
    """What `simulate` is given as its `client_fn`."""
    model, loss = task.net(), torch.nn.CrossEntropyLoss()
    if form == "linear":
        x, y = (column.numpy() for column in task.table())
        rate = {"lr": task.learning_rate, "batch_size": task.batch, "shuffle": False}
        return fl.LinearClients((x, y), lambda client: list(task.rows(client)), **rate)
    if form == "source":
        settings = {"batch_size": task.batch, "shuffle": False}
        return fl.TorchClients(model, loss, task.sgd, task.table(), lambda client: list(task.rows(client)), **settings)

    def build(context: fl.Context) -> fl.TorchClient:
        mine = task.client_data(context.partition_id)
        return fl.TorchClient(model, loss, task.sgd, mine, batch_size=task.batch, shuffle=False)

    return build


def drawn(population: int, cohort: int, rounds: int) -> list[list[int]]:
    """Who was asked, which follows from the seed alone."""
    keys = (cohort_key(SEED, number, 0, "fit") for number in range(1, rounds + 1))
    return [[int(client) for client in Everyone(population).sample(key, cohort)] for key in keys]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    parser.add_argument("--form", choices=["source", "built", "linear"], default="source")
    parser.add_argument("--engine", default="vmap")
    parser.add_argument("--clients", type=int)
    parser.add_argument("--cohort", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep-models", action="store_true", help="hand back the model after every round")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    gate = Gate()
    torch.set_num_threads(1)
    task = named(options.task)
    population, cohort = options.clients or task.population, options.cohort or task.cohort
    names = [name for name, _ in task.net().named_parameters()]
    models: list[np.ndarray] = []

    def opens(round_number: int) -> dict:
        gate.wait()
        return {}

    def keep(round_number: int, parameters: dict[str, np.ndarray], config: object) -> None:
        if round_number:
            models.append(np.concatenate([parameters[name].ravel() for name in names]))

    history = fl.simulate(
        clients(task, options.form),
        num_clients=population,
        config=fl.ServerConfig(
            num_rounds=options.rounds,
            fraction_fit=cohort / population,
            min_fit_clients=cohort,
            fraction_evaluate=0.0,
            seed=SEED,
        ),
        initial_parameters=dict(zip(names, task.initial_parameters(), strict=True)),
        evaluate_fn=keep if options.keep_models else None,
        engine=options.engine,
        workers=options.workers,
        on_fit_config_fn=opens,
        progress=False,
    )
    final = [history.parameters[name] for name in names]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in final)).hexdigest()
    gate.finish(options.result, final, drawn(population, cohort, options.rounds), models, sha256=digest)


if __name__ == "__main__":
    main()
