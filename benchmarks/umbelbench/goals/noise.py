"""What differential privacy costs a client: a step of DP-SGD beside a plain one and Opacus', a million noises."""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "noise"
PICTURES, NUMBERS = 60, 1_000_000


def run(options: Options) -> list[Row]:
    times = 3 if options.quick else max(15, options.pairs)
    command = [options.python, "-m", "umbelbench.goals.noise", str(times)]
    answer = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(answer.stdout)
    step = f"a DP-SGD step of LeNet over {PICTURES} pictures"
    rows = [
        Row(NAME, f"{step}, over a plain one (CPU time)", estimate(found["plain"])),
        Row(NAME, "1 M numbers of a client's Skellam noise (CPU time)", estimate(found["skellam"]), "s"),
        Row(NAME, "1 M numbers of a server's noise (CPU time)", estimate(found["gaussian"]), "s"),
    ]
    if found["opacus"]:
        rows.insert(1, Row(NAME, f"{step}, over Opacus' (CPU time)", estimate(found["opacus"])))
    return rows


def main() -> None:
    import numpy as np
    import torch
    from torch import nn

    import umbel as fl
    from umbel.message import Context
    from umbel.privacy import lattice
    from umbel.privacy.noise import fresh
    from umbel.privacy.training import DpSgdTraining
    from umbel.runtimes.privately import Parts

    def lenet() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )

    def descent(params: object) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=0.1)  # type: ignore[arg-type]

    torch.set_num_threads(1)
    batch = torch.randn(PICTURES, 1, 28, 28), torch.randint(10, (PICTURES,))
    client = fl.TorchClient(lenet(), nn.CrossEntropyLoss(), descent, batch, batch_size=PICTURES)
    ctx = Context(client="0", partition_id=0, num_partitions=1, round=1)
    start = client.parameters(ctx)
    client.load(start, ctx)
    plan = fl.PrivacyPlan(
        clip=1.0,
        noise_multiplier=1.0,
        delta=1e-3,
        sampling="every",
        unit="example",
        noise="dp-sgd",
        expected_examples=PICTURES,
        sample_rate=1.0,
        local_steps=1,
    )
    training = Parts(fl.FedAvg(), fl.ServerConfig(1, fraction_evaluate=0.0)).under(plan, 1, has_model=True).strategy
    assert isinstance(training, DpSgdTraining)

    def noisy() -> None:
        client.step_by_example(range(PICTURES), lambda g: training.noisy(g, start.schema.delta), None)

    def plain() -> None:
        client.step(batch, None)

    theirs = opacus_step(lenet, batch) if importlib.util.find_spec("opacus") is not None else None
    table = lattice.skellam(2**20)
    found: dict[str, list[float]] = {name: [] for name in ("plain", "opacus", "skellam", "gaussian")}
    for _ in range(int(sys.argv[1]) + 1):
        own = took(noisy)
        found["plain"].append(own / took(plain))
        if theirs is not None:
            found["opacus"].append(own / took(theirs))
        found["skellam"].append(took(lambda: table.draw(NUMBERS)))
        found["gaussian"].append(took(lambda: np.rint(fresh(NUMBERS))))
    # The first of each warms up.
    print(json.dumps({name: values[1:] for name, values in found.items()}))


def opacus_step(lenet: Callable[[], object], batch: tuple[object, object]) -> Callable[[], None]:
    """One step as Opacus takes it: gradients of single examples by hooks, clipped, summed, with noise."""
    import warnings

    import torch
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer
    from torch import nn

    warnings.filterwarnings("ignore", message="Full backward hook")
    model = GradSampleModule(lenet())
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.1),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=PICTURES,
    )

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    return step


def took(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
