"""What a torch client costs before its first step."""

import subprocess
import sys

import pytest

pytest.importorskip("torch")

TURN = """
import sys, torch, umbel as fl
x, y = torch.zeros(8, 3), torch.zeros(8, dtype=torch.long)

def client(context):
    sgd = lambda params: torch.optim.SGD(params, lr=0.1)
    return fl.TorchClient(torch.nn.Linear(3, 2), torch.nn.CrossEntropyLoss(), sgd, (x, y))

config = fl.ServerConfig(num_rounds=1, fraction_evaluate=0.0)
fl.simulate(client, num_clients=2, config=config, engine="serial", progress=False)
print("torch._dynamo" in sys.modules, hasattr(torch.optim.Optimizer.add_param_group.__wrapped__, "__dynamo_disable"))
"""


def test_plain_descent_does_not_load_the_compiler_and_leaves_nothing_behind_in_torch():
    done = subprocess.run([sys.executable, "-c", TURN], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
