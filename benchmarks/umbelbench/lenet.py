"""The LeNet task: data from a fixed formula of the client id, and the model.

Data are windows of one noise tape, so that loading costs nobody anything and the training is what is compared.
"""

import numpy as np
import torch
from torch import nn

from umbelbench.task import Samples, Task, uniform_start

SAMPLES, BATCH, LEARNING_RATE = 50, 10, 0.01
CLASSES = 8
_PIXELS = 3 * 32 * 32
_TAPE = np.random.default_rng(0).standard_normal(4_000_000, dtype=np.float32)
_STRIDE = 3_840  # floats between two clients' windows: a multiple of 16, to keep them aligned


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
    return uniform_start(net())


TASK = Task(1_000, 100, BATCH, LEARNING_RATE, net, initial_parameters, client_data)
