"""Devices by name: workers take them in turn, and what they need there is said, or refused, before the first round."""

import os
import signal

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError, TooFewClients
from umbel.footprint import Footprint
from umbel.runtimes.devices import OWN_BYTES, check_memory, free_bytes

torch = pytest.importorskip("torch")
nn = torch.nn
MIB = 2**20
SMALL = Footprint(model=4 * MIB, gradients=3 * MIB, optimizer=6 * MIB, activations=10 * MIB, batch=MIB)


def perceptron(device=None):
    return nn.Sequential(nn.Linear(6, 5, device=device), nn.ReLU(), nn.Linear(5, 3, device=device))


def client(model=None, optimizer=None, rows=8, **more):
    data = (torch.zeros(rows, 6), torch.zeros(rows, dtype=torch.long))
    return fl.TorchClient(model or perceptron(), nn.CrossEntropyLoss(), optimizer, data, batch_size=4, **more)


def test_a_footprint_counts_parameters_gradients_and_the_optimizers_memory():
    parameters = 4 * (6 * 5 + 5 + 5 * 3 + 3)
    plain = client(optimizer=lambda params: torch.optim.SGD(params, lr=0.1)).footprint()
    momentum = client(optimizer=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9)).footprint()
    adam = client(optimizer=lambda params: torch.optim.Adam(params)).footprint()
    assert (plain.model, plain.gradients, plain.optimizer) == (parameters, parameters, 0)
    assert momentum.optimizer == parameters
    assert adam.optimizer == 2 * parameters + 4 * 4  # and a count of steps for each array
    assert plain.batch == 4 * 6 * 4 + 4 * 8


def test_a_frozen_parameter_has_no_gradient():
    model = perceptron()
    model[0].weight.requires_grad_(False)
    found = client(model).footprint()
    assert found.model - found.gradients == 4 * 6 * 5


def test_a_bound_optimizer_is_seen_without_touching_it():
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters())
    assert client(model, optimizer).footprint().optimizer > 0
    assert not optimizer.state
    assert all(param.grad is None and param.device.type == "cpu" for param in model.parameters())


def test_activations_grow_with_the_batch_and_are_what_the_backward_pass_needs():
    def found(rows):
        data = (torch.zeros(rows, 6), torch.zeros(rows, dtype=torch.long))
        return fl.TorchClient(perceptron(), nn.CrossEntropyLoss(), None, data, batch_size=rows).footprint().activations

    # Kept for a row: five outputs of the ReLU and three log-probabilities, as float32; for the batch one total weight.
    assert found(400) - found(100) == 300 * 4 * (5 + 3)


def test_a_model_that_looks_at_values_is_measured_where_there_are_some():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = perceptron()

        def forward(self, x):
            return self.inner(x) * (2.0 if x.sum().item() >= 0 else 1.0)

    looks = client(Looks())
    before = torch.random.get_rng_state()
    assert looks.footprint().gradients == 4 * (6 * 5 + 5 + 5 * 3 + 3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_client_that_cannot_take_a_step_has_no_footprint_and_fails_in_its_turn():
    def step(model, batch):
        raise RuntimeError("broken")

    def client_fn(context):
        return fl.TorchClient(perceptron(), step=step, train_data=(torch.zeros(4, 6), torch.zeros(4)))

    assert client_fn(None).footprint() is None
    with pytest.raises(TooFewClients, match="RuntimeError: broken"):
        run("cpu:0", client_fn, engine="serial")


def test_a_block_is_the_model_and_once_more_everything_for_each_client():
    assert SMALL.of(1) == (4 + 24) * MIB
    assert SMALL.of(10) == (4 + 10 * 24) * MIB


def test_workers_take_devices_in_turn_and_each_device_has_to_hold_its_own():
    said = check_memory(SMALL, ["a", "b"], 3, 1, lambda name: 100 * MIB)
    assert [text.split(" of ")[0] for text in said] == [
        "2 workers need about 56.00 MiB",
        "1 workers need about 28.00 MiB",
    ]
    with pytest.raises(ConfigError, match=r"2 workers need about 56.00 MiB of a .* 30.00 MiB are free.*workers=1"):
        check_memory(SMALL, ["a", "b"], 3, 1, lambda name: 30 * MIB)


def test_what_a_process_takes_of_a_gpu_is_counted_and_what_cannot_be_seen_is_not_refused():
    (said,) = check_memory(SMALL, ["cuda:0"], 1, 4, lambda name: None)
    assert f"{(4 * MIB + 4 * 24 * MIB + OWN_BYTES) / 2**30:.2f} GiB of cuda:0" in said
    (unknown,) = check_memory(None, ["a"], 2, 1, lambda name: MIB)
    assert "not known" in unknown


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_before_the_run():
    with pytest.raises(ConfigError, match=r"'cuda:0' is not here: torch sees 0 CUDA devices"):
        run(device="cuda:0")


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="device must be a name"):
        run(device=())


def run(device, client_fn=None, **more):
    return fl.simulate(
        client_fn or (lambda context: client()),
        6,
        config=fl.ServerConfig(num_rounds=2, seed=1, fraction_evaluate=0.0, per_client_metrics=True),
        device=device,
        progress=False,
        **more,
    )


def test_a_model_that_does_not_fit_is_refused_before_anything_is_allocated():
    def giant(context):
        return fl.TorchClient(
            nn.Linear(2**20, 2**20, device="meta"), nn.MSELoss(), None, (torch.zeros(1, 2**20), torch.zeros(1, 2**20))
        )

    with pytest.raises(ConfigError, match="a smaller batch_size or more devices"):
        run("cpu:0", giant, engine="serial", initial_parameters=None)


class Tells(fl.NumPyClient):
    def __init__(self, context):
        self.context = context

    def get_parameters(self, config):
        return [np.zeros(2)]

    def fit(self, parameters, config):
        if self.context.config.get("dies") == self.context.partition_id and self.context.device.endswith("0"):
            os.kill(os.getpid(), signal.SIGKILL)
        return [parameters[0] + 1], 1, {"place": float(self.context.device.split(":")[1])}


def test_a_worker_that_is_replaced_goes_to_the_device_that_has_the_fewest():
    # Client 3 kills its worker on the first device only, so that it is played on the second.
    history = run(("cpu:0", "cpu:1"), Tells, engine="pool", workers=1, settings={"dies": 3})
    assert [(record.participants, len(record.failures)) for record in history.rounds] == [(6, 0), (6, 0)]
    places = {entry["client"]: entry["metrics"]["place"] for entry in history.rounds[0].clients}
    assert places["3"] == 1.0
    assert any("shared by 1 workers" in text for text in history.warnings)


def test_training_on_a_named_device_gives_the_same_bits_and_says_what_it_takes():
    plain, named = run("cpu", engine="serial"), run("cpu:0", engine="serial")
    assert plain.parameters == named.parameters
    assert not plain.warnings
    assert any("1 workers need about" in text and "are free" in text for text in named.warnings)


def test_free_memory_is_seen():
    assert free_bytes("cpu") > MIB
    assert free_bytes("mps") is None
