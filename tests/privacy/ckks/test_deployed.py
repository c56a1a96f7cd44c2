"""Encrypted rounds over sockets give what simulated ones give, with a server that has no key."""

import numpy as np
import pytest

import umbel as fl
from deployed.test_secure import NAMES, config, fails
from umbel.privacy.ckks.parameters import ckks
from umbel.testing import Quadratics

pytest.importorskip("tenseal")
SMALL = ckks(4096, coeff_mod_bits=(54, 55), scale_bits=21)
SECURE = fl.Secure(clip=16.0, weight_cap=64.0, secure_sum=SMALL)


@pytest.mark.parametrize("strategy", [fl.FedAvg(), fl.Scaffold()], ids=["FedAvg", "Scaffold"])
def test_encrypted_rounds_over_sockets_give_the_bits_of_the_simulation(strategy, federation):
    toy = Quadratics(dtype="float32")
    simulated = fl.simulate(
        toy.client, 4, strategy=strategy, config=config(), coordinator=SECURE, engine="serial", progress=False
    )
    deployed = federation.run(NAMES, toy.client, strategy=strategy, config=config(), coordinator=SECURE)
    assert deployed.parameters == simulated.parameters
    assert [record.loss for record in deployed.rounds] == [record.loss for record in simulated.rounds]


def net(context):
    """A torch client, whose process has gRPC as well."""
    import torch

    index = context.partition_id or 0
    draw = torch.Generator().manual_seed(index)
    inputs = torch.randn(40, 3, generator=draw)
    data = torch.utils.data.TensorDataset(inputs, inputs.sum(dim=1, keepdim=True) + index)
    model = torch.nn.Linear(3, 1)
    return fl.TorchClient(
        model,
        torch.nn.functional.mse_loss,
        lambda parameters: torch.optim.SGD(parameters, lr=0.05),
        torch.utils.data.DataLoader(data, batch_size=8),
    )


def test_torch_clients_over_grpc_in_one_process_have_the_bits_of_the_simulation(federation):
    pytest.importorskip("torch")
    pytest.importorskip("grpc")
    start = {"weight": np.zeros((1, 3), np.float32), "bias": np.zeros(1, np.float32)}
    more = {"config": config(fraction_evaluate=0.0), "coordinator": SECURE, "initial_parameters": start}
    simulated = fl.simulate(net, 4, engine="serial", progress=False, **more)
    deployed = federation.run(NAMES, net, listen="grpc://127.0.0.1:0", **more)
    assert deployed.parameters == simulated.parameters
    assert (deployed.parameters["weight"] != 0).all()


def test_a_node_that_fails_in_the_middle_is_left_out_of_the_sum(federation):
    history = federation.run(
        NAMES,
        fails,
        config=config(fraction_evaluate=0.0),
        coordinator=fl.Secure(clip=4.0, weight_cap=4.0, secure_sum=SMALL),
        initial_parameters=[np.zeros(3)],
    )
    assert history.parameters["0"].tolist() == [3.0] * 3
    assert [record.participants for record in history.rounds] == [3, 3, 3]
    assert "no data today" in history.rounds[0].failures[0].reason


def test_too_few_nodes_for_an_encrypted_sum_end_the_run_with_the_reason(federation):
    with pytest.raises(fl.TooFewClients, match="3 of 4 clients sent encrypted vectors, 4 are needed"):
        federation.run(
            NAMES,
            fails,
            config=config(fraction_evaluate=0.0),
            coordinator=fl.Secure(clip=4.0, threshold_share=0.9, secure_sum=SMALL),
            initial_parameters=[np.zeros(3)],
        )
