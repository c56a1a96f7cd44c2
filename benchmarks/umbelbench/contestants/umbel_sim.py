"""Umbel's simulation, through the public API as users know it.

`--work torch` trains LeNet with `TorchClient`, `user` trains it with the users' own loop in a `NumPyClient`, `noop`
returns the model as it came, `fresh` returns a new array of the model's size.
"""

import argparse
import mmap

import numpy as np

import umbel as fl
from umbelbench.gate import Gate


class Noop(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


class Fresh(fl.NumPyClient):
    def fit(self, parameters, config):
        return [p + np.float32(1) for p in parameters], 1, {}


def torch_client():
    import torch

    from umbelbench import lenet

    torch.set_num_threads(1)
    model, loss = lenet.net(), torch.nn.CrossEntropyLoss()

    def build(context):
        return fl.TorchClient(
            model,
            loss,
            optimizer=lambda params: torch.optim.SGD(params, lr=lenet.LEARNING_RATE),
            train_data=lenet.client_data(context.partition_id),
            batch_size=lenet.BATCH,
            epochs=1,
            shuffle=False,
        )

    names = [name for name, _ in model.named_parameters()]
    return build, dict(zip(names, lenet.initial_parameters(), strict=True))


def user_client():
    import torch

    from umbelbench import lenet
    from umbelbench.loops import UserLoop

    torch.set_num_threads(1)
    model = lenet.net()

    class Trained(UserLoop, fl.NumPyClient):
        pass

    return lambda context: Trained(lenet.TASK, context.partition_id, model), lenet.initial_parameters()


class Attendance:
    """Who was built in which round, marked by the workers in memory that they share with their parent."""

    def __init__(self, rounds: int, clients: int) -> None:
        self._seen = np.frombuffer(mmap.mmap(-1, (rounds + 1) * clients), np.uint8).reshape(rounds + 1, clients)
        self._round = np.frombuffer(mmap.mmap(-1, 8), np.int64)

    def opens(self, round_number: int) -> None:
        self._round[0] = round_number

    def mark(self, client: int) -> None:
        self._seen[self._round[0], client] = 1

    def cohorts(self) -> list[list[int]]:
        return [np.flatnonzero(row).tolist() for row in self._seen[1:]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", choices=["torch", "user", "noop", "fresh"], required=True)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--cohort", type=int, default=100)
    parser.add_argument("--parameters", type=int, default=1_000)
    parser.add_argument("--engine", default="pool")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    gate = Gate()
    if options.work in ("noop", "fresh"):
        client = Noop() if options.work == "noop" else Fresh()
        build, start = (lambda context: client), [np.zeros(options.parameters, np.float32)]
    else:
        build, start = torch_client() if options.work == "torch" else user_client()
    attendance = Attendance(options.rounds, options.clients)

    def client_fn(context):
        attendance.mark(context.partition_id)
        return build(context)

    def opens(round_number: int) -> dict:
        gate.wait()
        attendance.opens(round_number)
        return {}

    history = fl.simulate(
        client_fn,
        num_clients=options.clients,
        strategy=fl.FedAvg(),
        config=fl.ServerConfig(
            num_rounds=options.rounds,
            fraction_fit=options.cohort / options.clients,
            fraction_evaluate=0.0,
            min_fit_clients=options.cohort,
            seed=1,
        ),
        initial_parameters=start,
        engine=options.engine,
        workers=options.workers,
        on_fit_config_fn=opens,
        progress=False,
    )
    names = start if isinstance(start, dict) else [str(i) for i in range(len(start))]
    gate.finish(
        options.result,
        [history.parameters[name] for name in names],
        attendance.cohorts(),
        participants=[r.participants for r in history.rounds],
    )


if __name__ == "__main__":
    main()
