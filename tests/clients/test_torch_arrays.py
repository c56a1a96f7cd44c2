"""What a torch model's arrays are to a run: roles, statistics, frozen and half-precision parameters."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.message import Context  # noqa: E402

from .torch_parts import (  # noqa: E402
    LOSS,
    Odd,
    assert_close,
    by_hand,
    data,
    in_batches,
    made,
    mlp,
    normed,
    sgd,
    simulate,
)

BATCHES = in_batches(*data())


def test_roles_follow_what_the_arrays_are():
    client = fl.TorchClient(nn.ModuleDict({"odd": Odd(), "bn": nn.BatchNorm1d(3)}), LOSS, None, BATCHES)
    arrays = client.parameters(Context("0", 0, 1))
    roles = {spec.name: (spec.role, spec.dtype, spec.shape) for spec in arrays.schema}
    assert list(roles) == list(client.model.state_dict())
    assert roles["odd.one.weight"] == roles["odd.two.weight"] == ("trained", "F32", (6, 6))
    assert roles["odd.scale"] == ("trained", "F32", ())
    assert roles["odd.fixed"] == ("frozen", "F32", (6,))
    assert roles["odd.mask"] == ("averaged", "BOOL", (6,))
    assert roles["bn.weight"] == ("trained", "F32", (3,))
    assert roles["bn.running_mean"] == ("averaged", "F32", (3,))
    assert roles["bn.num_batches_tracked"] == ("averaged", "I64", ())


def test_batch_norm_statistics_are_averaged_and_the_server_optimizer_leaves_them_alone():
    sizes = (2, 4)  # batches of 8

    def client_fn(context):
        return fl.TorchClient(made(normed), LOSS, sgd(), BATCHES[: sizes[context.partition_id]])

    history = simulate(client_fn, 2, fl.FedAvg(server=fl.sgd(0.5)))
    start = made(normed).state_dict()
    ends = [by_hand(made(normed), BATCHES[:size], sgd()).state_dict() for size in sizes]
    mean = {name: (ends[0][name].double() * 16 + ends[1][name].double() * 32) / 48 for name in start}
    assert history.parameters["1.num_batches_tracked"] == 3  # 10/3, to the nearest whole number
    for name, value in mean.items():
        if name != "1.num_batches_tracked":
            expected = value if "running" in name else (start[name] + value) / 2
            np.testing.assert_allclose(history.parameters[name], expected, rtol=1e-5, atol=1e-6)


def test_frozen_parameters_stay_to_the_bit_and_do_not_travel_back():
    def client_fn(context):
        model = mlp()
        model[0].requires_grad_(frozen)
        return fl.TorchClient(model, LOSS, sgd(weight_decay=0.1), BATCHES)

    received = {}
    for frozen in (True, False):
        history = simulate(client_fn, strategy=fl.FedAdam())
        received[frozen] = history.rounds[-1].bytes_received
    start = mlp().state_dict()
    assert all((history.parameters[name] == start[name].numpy()).all() for name in ("0.weight", "0.bias"))
    assert not np.allclose(history.parameters["2.weight"], start["2.weight"])
    assert received[True] - received[False] >= (6 * 5 + 5) * 4


@pytest.mark.parametrize(("dtype", "step"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_models_train_and_are_summed_in_double(dtype, step):
    batches = in_batches(*data(dtype=dtype))
    history = simulate(lambda context: fl.TorchClient(mlp(dtype), LOSS, sgd(), batches))
    # The change is rounded once and the sum once more.
    assert_close(history.parameters, by_hand(mlp(dtype), batches, sgd()), rtol=2 * step, atol=step / 4)


def test_initial_parameters_of_another_width_are_those_that_the_run_keeps():
    batches = in_batches(*data(dtype=torch.bfloat16))
    given = [value.float().numpy() for value in mlp(torch.bfloat16).state_dict().values()]
    history = simulate(
        lambda context: fl.TorchClient(mlp(torch.bfloat16), LOSS, sgd(), batches), initial_parameters=given
    )
    assert {spec.dtype for spec in history.parameters.schema} == {"F32"}
    assert_close(history.parameters, by_hand(mlp(torch.bfloat16), batches, sgd()), rtol=1e-6, atol=1e-7)


def test_a_dtype_that_no_model_can_have_is_refused_by_name():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))

    with pytest.raises(
        fl.UmbelError, match=r"array 'phase' has dtype torch.complex64, which cannot be part of a model; convert"
    ):
        simulate(lambda context: fl.TorchClient(Complex(), LOSS, sgd(), BATCHES))
