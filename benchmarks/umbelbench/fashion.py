"""LeNet on Fashion-MNIST, 1,000 clients of 60 pictures each, dealt out at random; batches of ten."""

from functools import cache

import numpy as np
import torch
from torch import nn

from umbelbench.idx import fashion_mnist
from umbelbench.task import Samples, tabled, uniform_start

CLIENTS, SAMPLES = 1_000, 60


def net() -> nn.Module:
    """LeNet for 28 x 28 grey pictures, 61,706 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def tensors(images: np.ndarray, labels: np.ndarray) -> Samples:
    x = (images.astype(np.float32) / 255 - 0.2860) / 0.3530
    return torch.from_numpy(x[:, None]), torch.from_numpy(labels.astype(np.int64))


@cache
def table() -> Samples:
    images, labels = fashion_mnist("train")
    order = np.random.default_rng(0).permutation(len(labels))
    return tensors(images[order], labels[order])


def test() -> Samples:
    return tensors(*fashion_mnist("t10k"))


def rows(client: int) -> range:
    return range(client * SAMPLES, (client + 1) * SAMPLES)


def start() -> list[np.ndarray]:
    return uniform_start(net())


TASK = tabled(
    table, rows, population=CLIENTS, cohort=100, batch=10, learning_rate=0.1, net=net, initial_parameters=start
)
