"""A `JaxClient` computes where it is told to, by the name of a device. A second CPU device stands for any other."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("jax")

PROGRAM = """
import sys
import jax, numpy as np, umbel as fl

seen = set()
def loss(params, batch):
    x, y = batch
    return ((x @ params["w"] - y) ** 2).mean()

def client_fn(context):
    x = np.full((6, 3), 1.0 + context.partition_id, np.float32)
    client = fl.JaxClient(loss, {"w": np.zeros(3, np.float32)}, (x, np.ones(6, np.float32)), lr=0.01, batch_size=4,
                          test_data=(x, np.ones(6, np.float32)), device=own)
    step = client.step
    def noted(batch, correct):
        found = step(batch, correct)
        seen.update(device for leaf in client._trained.values() for device in leaf.devices())
        return found
    client.step = noted
    return client

def run(device, engine="serial"):
    config = fl.ServerConfig(num_rounds=2, seed=1)
    return fl.simulate(client_fn, 3, strategy=fl.Scaffold(), config=config, device=device, engine=engine, workers=1,
                       progress=False)

own = None
plain = run("cpu")
assert seen == {jax.devices()[0]}, seen
seen.clear()
other = run("cpu:1")
assert seen == {jax.devices()[1]}, seen
assert other.parameters == plain.parameters and other.loss == plain.loss
blocks, others = run("cpu", "vmap"), run("cpu:1", "vmap")
assert blocks.parameters == others.parameters
seen.clear()
own = "cpu:1"
run("cpu")
assert seen == {jax.devices()[1]}, seen
own = "cuda:7"
try:
    run("cpu")
except fl.UmbelError as error:
    print(error)
"""


def test_a_jax_client_computes_on_the_device_of_that_name():
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "device 'cuda:7' is not here" in done.stdout
