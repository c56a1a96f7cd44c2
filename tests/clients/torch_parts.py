"""Small networks, data and the plain PyTorch loop that `TorchClient` is compared with."""

import numpy as np
import torch
from torch import nn

import umbel as fl

LOSS = nn.CrossEntropyLoss()


def sgd(lr=0.1, **more):
    return lambda params: torch.optim.SGD(params, lr=lr, **more)


def mlp(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def made(build):
    torch.manual_seed(0)
    return build()


def normed():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


class Odd(nn.Module):
    """Tied weights under two names, a 0-d parameter, one that never gets a gradient, a frozen one, a bool buffer."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.unused = nn.Parameter(torch.ones(2))
        self.fixed = nn.Parameter(torch.full((6,), 0.5), requires_grad=False)
        self.head = nn.Linear(6, 3)
        self.register_buffer("mask", torch.tensor([True, False, True, True, True, True]))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)

    def forward(self, x):
        return self.head(self.scale * torch.tanh(self.two(torch.tanh(self.one(x)))) * self.mask + self.fixed)


def data(count=35, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    y = (x @ torch.randn(6, 3, generator=generator, dtype=torch.float64)).argmax(1)
    return x.to(dtype), y


def in_batches(x, y, size=8):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def by_hand(
    model, batches, optimizer, *, epochs=1, scheduler=None, clip_grad_norm=None, accumulate=1, amp=None, correct=None
):
    """Plain PyTorch: every step takes the mean gradient of `accumulate` batches, or of those that are left."""
    opt = optimizer(model.parameters())
    rates = scheduler(opt) if scheduler else None
    todo = [batch for _ in range(epochs) for batch in batches]
    model.train()
    for first in range(0, len(todo), accumulate):
        together = todo[first : first + accumulate]
        opt.zero_grad()
        for x, y in together:
            with torch.autocast("cpu", amp or torch.bfloat16, enabled=amp is not None):
                loss = LOSS(model(x), y)
            (loss / len(together)).backward()
        if clip_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
        if correct:
            with torch.no_grad():
                for name, param in model.named_parameters():
                    param.grad.copy_(correct(name, param.grad, param))
        opt.step()
        if rates:
            rates.step()
    return model


def simulate(client_fn, clients=1, strategy=None, rounds=1, **more):
    config = fl.ServerConfig(num_rounds=rounds, seed=1, fraction_evaluate=more.pop("fraction_evaluate", 0.0))
    given = {"engine": "serial", "progress": False, **more}
    return fl.simulate(client_fn, clients, strategy=strategy, config=config, **given)


def assert_close(parameters, expected, **tolerance):
    """The run's parameters against a model or a mapping of tensors, in the names of `state_dict`."""
    expected = expected.state_dict() if isinstance(expected, nn.Module) else expected
    assert list(parameters) == list(expected)
    for name, value in expected.items():
        got = parameters.float64(name)
        np.testing.assert_allclose(got, value.detach().double().numpy(), err_msg=name, **tolerance)
