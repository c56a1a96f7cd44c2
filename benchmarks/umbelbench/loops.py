"""Two ways to train a task's model on one client.

`UserLoop` is what a user writes (a model, an optimizer, a loop); `FlatLoop` is the fastest plain torch we know for it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from umbelbench.task import Task


class UserLoop:
    """A client as users write it. Mixed with a framework's client class, or driven by hand."""

    def __init__(self, task: Task, client: int, model: nn.Module) -> None:
        self.task, self.model = task, model
        self.x, self.y = task.client_data(client)

    def fit(self, parameters: Sequence[np.ndarray], config: object) -> tuple[list[np.ndarray], int, dict[str, float]]:
        with torch.no_grad():
            for mine, theirs in zip(self.model.parameters(), parameters, strict=True):
                mine.copy_(torch.tensor(theirs))
        optimizer = self.task.sgd(self.model.parameters())
        loss_of = nn.CrossEntropyLoss()
        for inputs, labels in zip(self.x.split(self.task.batch), self.y.split(self.task.batch), strict=True):
            optimizer.zero_grad()
            loss_of(self.model(inputs), labels).backward()
            optimizer.step()
        return [p.detach().numpy().copy() for p in self.model.parameters()], len(self.y), {}


class FlatLoop:
    """Parameters and gradients are views of two flat vectors: reset is one copy, a step is one axpy."""

    def __init__(self, task: Task) -> None:
        self.task, self.model = task, task.net()
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
        x, y = self.task.client_data(client)
        self.flat.copy_(start)
        for first in range(0, len(y), self.task.batch):
            mine = slice(first, first + self.task.batch)
            self.gradient.zero_()
            nn.functional.cross_entropy(self.model(x[mine]), y[mine]).backward()
            self.flat.add_(self.gradient, alpha=-self.task.learning_rate)
        return len(y)
