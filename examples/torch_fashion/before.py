"""A convolutional network learns Fashion-MNIST, in ordinary PyTorch."""

import argparse

import torch
from torch import nn

from umbel.data import fashion_mnist


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def load(folder, subset):
    train_x, train_y, test_x, test_y = fashion_mnist(folder)
    x, y = pictures(train_x[:subset]), torch.from_numpy(train_y[:subset]).long()
    return (x, y), (pictures(test_x[:subset]), torch.from_numpy(test_y[:subset]).long())


def pictures(images):
    return (torch.from_numpy(images).float().unsqueeze(1) / 255 - 0.286) / 0.353


def accuracy(model, test):
    x, y = test
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder with the four IDX files; default: the Debian package's")
    parser.add_argument("--subset", type=int, help="use only so many pictures")
    parser.add_argument("--rounds", type=int, default=5, help="passes over the data")
    args = parser.parse_args()
    torch.manual_seed(1)
    (x, y), test = load(args.data, args.subset)
    model, loss = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for number in range(1, args.rounds + 1):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
        print(f"round {number}: accuracy {accuracy(model, test):.3f}")


if __name__ == "__main__":
    main()
