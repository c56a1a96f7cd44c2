"""pfl's simulation of a training task: its federated averaging, model and dataset classes, two ranks of one thread.

The ranks are what `torchrun --nproc-per-node 2` would start; rank 0 starts rank 1 itself, so that the process that the
harness holds still between rounds is the one that leads. Only the gate is added.
"""

import argparse
import os
import socket
import subprocess
import sys

import numpy as np

from umbelbench.gate import Gate

RANKS = 2


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ranked(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells a rank."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_WORLD_SIZE": RANKS, "MASTER_PORT": port}
    names = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "bench", "PFL_PYTORCH_DEVICE": "cpu"}
    return {**{key: str(value) for key, value in numbers.items()}, **names}


def dataset(task, population: int):
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.data.sampling import get_user_sampler

    def make(client: int):
        return PyTorchTensorDataset(task.client_data(client), user_id=client)

    # With the sizes known, pfl gives each rank an equal share of the examples; without, of the clients.
    sizes = None if task.equal else {client: len(task.rows(client)) for client in range(population)}
    return FederatedDataset(make, get_user_sampler("minimize_reuse", range(population)), user_id_to_weight=sizes)


def model(task):
    import torch
    from pfl.metrics import Weighted
    from pfl.model.pytorch import PyTorchModel

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss_of = task.net(), torch.nn.CrossEntropyLoss()

        def loss(self, x, y):
            return self.loss_of(self.net(x), y)

        @torch.no_grad()
        def metrics(self, x, y):
            return {"loss": Weighted(self.loss(x, y).item() * len(y), len(y))}

    module = Module()
    with torch.no_grad():
        for parameter, array in zip(module.net.parameters(), task.initial_parameters(), strict=True):
            parameter.copy_(torch.from_numpy(array))
    return PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))


def opening(gate: Gate | None, rounds: int, other: object, keep: list[np.ndarray] | None):
    """A callback that holds both ranks at the gate before every round."""
    from pfl.callback.base import TrainingProcessCallback
    from pfl.metrics import Metrics

    class Opening(TrainingProcessCallback):
        def on_train_begin(self, *, model):
            self.wait()
            return Metrics()

        def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
            if keep is not None:
                keep.append(flat(model))
            if central_iteration + 1 < rounds:
                self.wait()
            return False, Metrics()

        def wait(self) -> None:
            if gate is None:
                os.read(0, 1)
            else:
                gate.wait()
                os.write(other, b".")

    return Opening()


def flat(trained) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in trained.pytorch_model.parameters()])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    parser.add_argument("--clients", type=int)
    parser.add_argument("--cohort", type=int)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--keep-models", action="store_true", help="hand back the model after every round")
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    if "RANK" in os.environ:
        train(options, None, -1)
        return
    gate, port = Gate(), free_port()
    os.environ.update(ranked(0, port))
    command = [sys.executable, "-m", "umbelbench.contestants.pfl_sim", *sys.argv[1:]]
    second = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, **ranked(1, port)})
    train(options, gate, second.stdin.fileno())
    second.wait()


def train(options: argparse.Namespace, gate: Gate | None, other: int) -> None:
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.hyperparam.base import NNTrainHyperParams

    from umbelbench.task import named

    torch.set_num_threads(1)
    np.random.seed(0)  # equal on all ranks, which then draw the same cohort
    task = named(options.task)
    population, cohort = options.clients or task.population, options.cohort or task.cohort
    trained, data = model(task), dataset(task, population)
    models: list[np.ndarray] | None = [] if options.keep_models and gate else None
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=options.rounds,
            evaluation_frequency=options.rounds + 1,
            train_cohort_size=cohort,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(data, data, postprocessors=[] if task.equal else [WeightByDatapoints()]),
        model=trained,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=task.learning_rate, local_batch_size=task.batch
        ),
        callbacks=[opening(gate, options.rounds, other, models)],
        send_metrics_to_platform=False,
    )
    if gate is not None:  # the sampler walks through the clients in order
        walk = [[client % population for client in range(r * cohort, (r + 1) * cohort)] for r in range(options.rounds)]
        gate.finish(options.result, [flat(trained)], walk, models)


if __name__ == "__main__":
    main()
