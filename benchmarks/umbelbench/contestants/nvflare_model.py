"""The silos' model as a class that NVIDIA FLARE can build by its name."""

import torch

from umbelbench.task import named


class Silo(torch.nn.Module):
    """The perceptron of the task `silo`, at its start."""

    def __init__(self) -> None:
        super().__init__()
        task = named("silo")
        self.net = task.net()
        with torch.no_grad():
            for parameter, array in zip(self.net.parameters(), task.initial_parameters(), strict=True):
                parameter.copy_(torch.from_numpy(array))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)
