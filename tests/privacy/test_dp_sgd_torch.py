"""DP-SGD of PyTorch models, with Opacus as the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import umbel as fl
from umbel.errors import NotSupported
from umbel.message import Ask, Context, Task
from umbel.privacy.accounting import renyi_epsilon
from umbel.privacy.mechanism import DpSgd, Mechanism
from umbel.privacy.training import DpSgdTraining
from umbel.runtimes.privately import Parts

torch = pytest.importorskip("torch")
pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")
nn = torch.nn
CLIP = 0.7


def model() -> Any:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def data(count: int = 24) -> tuple[Any, Any]:
    torch.manual_seed(4)
    return torch.randn(count, 1, 8, 8), torch.randint(10, (count,))


def made(train: Any, build: Any = model, **more: Any) -> Any:
    arguments = {"optimizer": lambda params: torch.optim.SGD(params, lr=1.0), "batch_size": 8, **more}
    return fl.TorchClient(build(), arguments.pop("loss", nn.CrossEntropyLoss()), train_data=train, **arguments)


def training(steps: int = 1, rate: float = 1.0) -> DpSgdTraining:
    plan = fl.PrivacyPlan(
        clip=CLIP,
        noise_multiplier=1.0,
        delta=1e-4,
        sampling="every",
        unit="example",
        noise="dp-sgd",
        expected_examples=24,
        sample_rate=rate,
        local_steps=steps,
    )
    config = fl.ServerConfig(1, fraction_evaluate=0.0)
    strategy = Parts(fl.FedAvg(), config).under(plan, 1, has_model=True).strategy
    assert isinstance(strategy, DpSgdTraining)
    return strategy


def stepped(client: Any, steps: int = 1, rate: float = 1.0) -> Any:
    """How far silent steps move the model."""
    strategy = replace(training(steps, rate), draw=np.zeros)
    ctx = Context(client="0", partition_id=0, num_partitions=1, round=1)
    task = strategy.task(strategy.init(client.parameters(ctx)), 1)
    return strategy.local(Ask("0", "fit", task), client, ctx)[0].groups["delta"].arrays


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_a_step_is_opacus_without_noise() -> None:
    opacus = pytest.importorskip("opacus")
    x, y = data()
    by_sample = opacus.GradSampleModule(model())
    optimizer = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(by_sample.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIP,
        expected_batch_size=24,
    )
    nn.CrossEntropyLoss()(by_sample(x), y).backward()
    optimizer.step()
    wanted = {name.removeprefix("_module."): value for name, value in by_sample.state_dict().items()}
    found = stepped(made((x, y)))
    for name, start in model().state_dict().items():
        np.testing.assert_allclose(found[name], (wanted[name] - start).numpy(), atol=CLIP * 2.0**-14)


def test_steps_cost_what_opacus_says() -> None:
    analysis = pytest.importorskip("opacus.accountants.analysis.rdp")
    orders = [*range(2, 256)]
    spent = analysis.compute_rdp(q=0.02, noise_multiplier=1.2, steps=900, orders=orders)
    theirs, _ = analysis.get_privacy_spent(orders=orders, rdp=spent, delta=1e-5)
    ours = Mechanism(
        noise_multiplier=1.2, sampling="every", cohort=1, clients=1, dp_sgd=DpSgd(sample_rate=0.02, local_steps=90)
    )
    assert renyi_epsilon(ours, 10, 1e-5) == pytest.approx(theirs, rel=0.02)


class Pictures(torch.utils.data.Dataset):  # type: ignore[name-defined,misc]
    def __init__(self) -> None:
        self.x, self.y = data()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Any:
        return self.x[row], self.y[row]


@pytest.mark.parametrize("kind", ["dataset", "loader", "mapping", "step"])
def test_data_in_every_form_give_the_same_step(kind: str) -> None:
    plain = stepped(made(data()))
    x, y = data()
    client = {
        "dataset": lambda: made(Pictures()),
        "loader": lambda: made(torch.utils.data.DataLoader(Pictures(), batch_size=5, shuffle=True)),
        "mapping": lambda: made({"x": x, "y": y}, loss=None, step=_by_name),
        "step": lambda: made(
            (x, y), loss=None, step=lambda m, batch: nn.functional.cross_entropy(m(batch[0]), batch[1])
        ),
    }[kind]()
    for name, value in stepped(client).items():
        np.testing.assert_array_equal(value, plain[name])


def _by_name(module: Any, batch: Any) -> Any:
    return nn.functional.cross_entropy(module(batch["x"]), batch["y"])


def test_a_loss_that_mixes_a_batch_sees_one_example_at_a_time() -> None:
    """A loss over pairs would let one example change the gradients of all others, past every clip."""

    def spread(output: Any, target: Any) -> Any:
        return nn.functional.cross_entropy(output, target) + (output - output.mean(0)).square().sum()

    for name, value in stepped(made(data(), loss=spread)).items():
        np.testing.assert_array_equal(value, stepped(made(data()))[name])


def test_one_example_moves_a_step_by_no_more_than_the_clip() -> None:
    x, y = data()
    whole, less = stepped(made((x, y))), stepped(made((x[1:], y[1:])))
    moved = np.concatenate([(whole[name] - less[name]).ravel() for name in whole])
    assert 0 < np.linalg.norm(moved) * 24 <= CLIP * (1 + 1e-5)


def test_nobody_is_drawn_and_the_step_is_noise_alone() -> None:
    assert all(not value.any() for value in stepped(made(data()), rate=1e-12).values())


@pytest.mark.parametrize(
    ("reason", "client"),
    [
        ("give arrays or a Dataset", lambda: made([data(4), data(4)])),
        ("scales the loss of a batch", lambda: made(data(), amp=torch.float16)),
        (
            "group normalisation",
            lambda: made(data(), lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))),
        ),
    ],
)
def test_what_cannot_be_private_is_refused(reason: str, client: Any) -> None:
    with pytest.raises(NotSupported, match=reason):
        stepped(client())


def test_single_gradients_of_a_loader_are_those_of_its_rows() -> None:
    ctx = Context(client="0", partition_id=0, num_partitions=1, round=1)
    loader, plain = made(torch.utils.data.DataLoader(Pictures(), batch_size=5)), made(data())
    pairs = zip(*(one.example_gradients(one.parameters(ctx), ctx) for one in (loader, plain)), strict=True)
    assert sum(first.digest == second.digest for first, second in pairs) == 24


def test_dropout_masks_follow_from_no_seed() -> None:
    """From one stream whose seed a server may know, an example more would change the masks of all that follow it."""

    def dropping() -> Any:
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

    found = []
    for _ in range(2):
        torch.manual_seed(9)
        found.append(stepped(made(data(), dropping)))
    assert any((found[0][name] != found[1][name]).any() for name in found[0])


@pytest.mark.parametrize("role", ["frozen", "averaged"])
def test_a_role_that_a_server_gives_lets_nothing_through(role: Any) -> None:
    client = made(data())
    ctx = Context(client="0", partition_id=0, num_partitions=1, round=1)
    own = client.parameters(ctx)
    values = fl.Arrays.of(dict(own), roles={"0.weight": role})
    with pytest.raises(NotSupported, match="is trained here and"):
        training().local(Ask("0", "fit", Task(1, values)), client, ctx)
