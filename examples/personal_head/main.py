"""Ten clients who each see three kinds of digits share a backbone; the head that names the digits stays at home.

python examples/personal_head/main.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import umbel as fl
from umbel.data import PathologicalClasses

CLIENTS, ROUNDS, SEED = 10, 10, 1

x, y = load_digits(return_X_y=True)
x = (x / 16).astype(np.float32)
parts = PathologicalClasses(CLIENTS, classes_per_client=3, seed=SEED).split(y)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, images):
        return self.head(self.backbone(images))


def client(number):
    own_x, own_y = parts.take(number, x, y)
    test = np.arange(len(own_y)) % 4 == 0  # every fourth digit judges
    torch.manual_seed(SEED)  # all networks start alike
    return fl.TorchClient(
        Network(),
        nn.CrossEntropyLoss(),
        lambda params: torch.optim.SGD(params, lr=0.1),
        (own_x[~test], own_y[~test]),
        test_data=(own_x[test], own_y[test]),
        epochs=2,
    )


def run(clients, strategy):
    """The accuracies of the last model at each client's own test digits, and the bytes that a round sends."""
    history = fl.simulate(
        lambda context: client(clients[context.partition_id]),
        len(clients),
        strategy=strategy,
        config=fl.ServerConfig(num_rounds=ROUNDS, seed=SEED, evaluate_every=ROUNDS, per_client_metrics=True),
        engine="serial",
        progress=False,
    )
    last = history.rounds[-1]
    found = {
        int(entry["client"]): entry["metrics"]["accuracy"] for entry in last.clients if entry["kind"] == "evaluate"
    }
    return [found[place] for place in range(len(clients))], last.bytes_received


def main():
    everyone = range(CLIENTS)
    shared, shared_bytes = run(everyone, fl.FedAvg())
    personal, personal_bytes = run(everyone, fl.FedAvg(shared="backbone.*"))
    alone = [run([number], fl.FedAvg())[0][0] for number in everyone]
    columns = {"alone": alone, "one head for all": shared, "own head": personal}
    print("client  digits   " + "".join(f"{title:<18}" for title in columns).rstrip())
    for number, row in enumerate(zip(*columns.values(), strict=True)):
        kinds = " ".join(map(str, np.unique(y[parts[number]])))
        print(f"{number:<8}{kinds:<9}" + "".join(f"{value:<18.3f}" for value in row).rstrip())
    for title, summary in (("mean", np.mean), ("worst", min)):
        print(f"{title:<17}" + "".join(f"{summary(column):<18.3f}" for column in columns.values()).rstrip())
    print(f"{'kB per round':<17}{'0':<18}{shared_bytes / 1000:<18.0f}{personal_bytes / 1000:.0f}")


if __name__ == "__main__":
    main()
