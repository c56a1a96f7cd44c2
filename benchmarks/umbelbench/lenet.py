"""The LeNet task: data from a fixed formula of the client id, the model, and two ways to train it on one client.

`UserLoop` is what a user writes (a model, an optimizer, a loop); `FlatLoop` is the fastest plain torch we know for it.
Data are windows of one noise tape, so that loading costs nobody anything and the training is what is compared.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

SAMPLES, BATCH, LEARNING_RATE = 50, 10, 0.01
CLASSES = 8
_PIXELS = 3 * 32 * 32
_TAPE = np.random.default_rng(0).standard_normal(4_000_000, dtype=np.float32)
_STRIDE = 3_840  # floats between two clients' windows: a multiple of 16, to keep them aligned

Samples = tuple[torch.Tensor, torch.Tensor]


def client_data(client: int) -> Samples:
    """The samples of one client: a window of the tape, and labels that the channels' means decide."""
    start = client * _STRIDE % (_TAPE.size - SAMPLES * _PIXELS)
    images = _TAPE[start : start + SAMPLES * _PIXELS].reshape(SAMPLES, 3, 32, 32)
    labels = (images.mean(axis=(2, 3)) > 0) @ np.array([1, 2, 4])
    return torch.from_numpy(images), torch.from_numpy(labels)


def net() -> nn.Module:
    """LeNet for 32 x 32 x 3 images, 62,006 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def initial_parameters() -> list[np.ndarray]:
    """The same start for every contestant: uniform within 1/sqrt(fan-in)."""
    rng = np.random.default_rng(1)
    arrays = []
    fan_in = 1
    for parameter in net().parameters():
        shape = tuple(parameter.shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else fan_in
        arrays.append((rng.uniform(-1, 1, shape) / np.sqrt(fan_in)).astype(np.float32))
    return arrays


class UserLoop:
    """A client as users write it. Mixed with a framework's client class, or driven by hand."""

    def __init__(self, client: int, model: nn.Module) -> None:
        self.model = model
        self.images, self.labels = client_data(client)

    def fit(self, parameters: Sequence[np.ndarray], config: object) -> tuple[list[np.ndarray], int, dict[str, float]]:
        with torch.no_grad():
            for mine, theirs in zip(self.model.parameters(), parameters, strict=True):
                mine.copy_(torch.tensor(theirs))
        optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        loss_of = nn.CrossEntropyLoss()
        for images, labels in zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True):
            optimizer.zero_grad()
            loss_of(self.model(images), labels).backward()
            optimizer.step()
        return [p.detach().numpy().copy() for p in self.model.parameters()], len(self.labels), {}


class FlatLoop:
    """Parameters and gradients are views of two flat vectors: reset is one copy, a step is one axpy."""

    def __init__(self) -> None:
        self.model = net()
        parameters = list(self.model.parameters())
        size = sum(p.numel() for p in parameters)
        self.flat, self.gradient = torch.zeros(size), torch.zeros(size)
        start = 0
        for p in parameters:
            window = slice(start, start + p.numel())
            p.data = self.flat[window].view_as(p)
            p.grad = self.gradient[window].view_as(p)
            start = window.stop

    def train(self, start: torch.Tensor, client: int) -> int:
        """Trains from `start` on one client, leaves the result in `flat`, returns the number of samples."""
        images, labels = client_data(client)
        self.flat.copy_(start)
        for first in range(0, SAMPLES, BATCH):
            self.gradient.zero_()
            scores = self.model(images[first : first + BATCH])
            nn.functional.cross_entropy(scores, labels[first : first + BATCH]).backward()
            self.flat.add_(self.gradient, alpha=-LEARNING_RATE)
        return SAMPLES
