"""Twelve people sort digits into five boxes of their own; they share a backbone, and their heads stay at home.

Each knows five kinds of digits, numbers its boxes in its own order, and has sorted 12 digits so far.

    python examples/personal_head/main.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import umbel as fl
from umbel.data import PathologicalClasses

CLIENTS, KINDS, SORTED, ROUNDS, SEED = 12, 5, 12, 20, 1

x, y = load_digits(return_X_y=True)
x = (x / 16).astype(np.float32)
parts = PathologicalClasses(CLIENTS, classes_per_client=KINDS, seed=SEED).split(y)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, KINDS)

    def forward(self, images):
        return self.head(self.backbone(images))


def boxes(number):
    """The person's kinds of digits, in the order of the boxes."""
    return np.random.default_rng([SEED, number]).permutation(np.unique(y[parts[number]]))


def client(number):
    own_x, own_y = parts.take(number, x, y)
    box = np.argsort(boxes(number))[np.searchsorted(np.unique(own_y), own_y)]
    order = np.random.default_rng([SEED, number]).permutation(len(box))
    train, test = order[:SORTED], order[SORTED:]
    torch.manual_seed(SEED)  # all networks start alike
    return fl.TorchClient(
        Network(),
        nn.CrossEntropyLoss(),
        lambda params: torch.optim.SGD(params, lr=0.5),
        (own_x[train], box[train]),
        test_data=(own_x[test], box[test]),
        epochs=5,
    )


def run(people, strategy):
    """The accuracies of the last model on each person's digits to come, and the bytes that a round sends."""
    history = fl.simulate(
        lambda context: client(people[context.partition_id]),
        len(people),
        strategy=strategy,
        config=fl.ServerConfig(num_rounds=ROUNDS, seed=SEED, evaluate_every=ROUNDS, per_client_metrics=True),
        engine="serial",
        progress=False,
    )
    last = history.rounds[-1]
    found = {
        int(entry["client"]): entry["metrics"]["accuracy"] for entry in last.clients if entry["kind"] == "evaluate"
    }
    return [found[place] for place in range(len(people))], last.bytes_received


def main():
    everyone = range(CLIENTS)
    alone = [run([number], fl.FedAvg())[0][0] for number in everyone]
    shared, shared_bytes = run(everyone, fl.FedAvg())
    personal, personal_bytes = run(everyone, fl.FedAvg(shared="backbone.*"))
    columns = {"alone": alone, "one head for all": shared, "own head": personal}
    print("person  boxes       " + "".join(f"{title:<18}" for title in columns).rstrip())
    for number, row in enumerate(zip(*columns.values(), strict=True)):
        kinds = " ".join(map(str, boxes(number)))
        print(f"{number:<8}{kinds:<12}" + "".join(f"{value:<18.3f}" for value in row).rstrip())
    for title, summary in (("mean", np.mean), ("worst", min)):
        print(f"{title:<20}" + "".join(f"{summary(column):<18.3f}" for column in columns.values()).rstrip())
    print(f"{'kB per round':<20}{'0':<18}{shared_bytes / 1000:<18.0f}{personal_bytes / 1000:.0f}")


if __name__ == "__main__":
    main()
