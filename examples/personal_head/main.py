"""Ten clients who each see three kinds of digits share a backbone; the head that names the digits stays at home.

python examples/personal_head/main.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import umbel as fl
from umbel.data import PathologicalClasses

CLIENTS, ROUNDS, SEED = 10, 15, 1

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


def client_fn(context):
    own_x, own_y = parts.take(context.partition_id, x, y)
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


def accuracies(strategy):
    """Per client, the last model's accuracy on the client's own test digits; and what a round sends."""
    config = fl.ServerConfig(num_rounds=ROUNDS, seed=SEED, evaluate_every=ROUNDS, per_client_metrics=True)
    history = fl.simulate(client_fn, CLIENTS, strategy=strategy, config=config, engine="serial", progress=False)
    last = history.rounds[-1]
    found = {
        int(entry["client"]): entry["metrics"]["accuracy"] for entry in last.clients if entry["kind"] == "evaluate"
    }
    return [found[client] for client in range(CLIENTS)], last.bytes_received


def main():
    shared, shared_bytes = accuracies(fl.FedAvg())
    personal, personal_bytes = accuracies(fl.FedAvg(shared="backbone.*"))
    print("client  digits   one head for all  own head")
    for client, (one, own) in enumerate(zip(shared, personal, strict=True)):
        kinds = " ".join(map(str, np.unique(y[parts[client]])))
        print(f"{client:<8}{kinds:<9}{one:<18.3f}{own:.3f}")
    print(f"{'mean':<17}{np.mean(shared):<18.3f}{np.mean(personal):.3f}")
    print(f"{'worst':<17}{min(shared):<18.3f}{min(personal):.3f}")
    print(f"{'sent per round':<17}{f'{shared_bytes / 1000:.0f} kB':<18}{personal_bytes / 1000:.0f} kB")


if __name__ == "__main__":
    main()
