"""A secure round between real processes over TLS, with nodes that vouch for their keys by their certificates."""

import json

import numpy as np
import pytest

from umbel.arrays import Arrays

from .place import Place, operator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("secure"))
    found.fine("new", "hospital")
    run = found.folder / "hospital" / "hospital" / "run.py"
    code = run.read_text()
    secure = "coordinator=fl.Secure(clip=8.0, weight_cap=500),"
    assert code.count("fl.Run(") == 1
    run.write_text(code.replace("fl.Run(", f"fl.Run({secure} "))
    yield found
    found.end()


def test_a_secure_run_of_enrolled_nodes_has_the_bits_of_the_simulation(place):
    address = place.serve("--listen", "127.0.0.1:0")
    place.enrol(address, 4)
    shown = place.fine("run", "hospital", "--set", "num_rounds=3", *operator(address))
    assert "finished after round 3" in shown
    listed = json.loads(place.fine("ls", "--json", *operator(address)))
    assert [(run["status"], run["round"]) for run in listed][-1] == ("finished", 3)
    place.fine("export", "last", "deployed.safetensors", *operator(address))
    place.fine("run", "hospital", "--set", "num_rounds=3")
    place.fine("export", "last", "simulated.safetensors")
    deployed, simulated = (Arrays.load(str(place.folder / f"{name}.safetensors")) for name in ("deployed", "simulated"))
    for name, value in simulated.items():
        np.testing.assert_array_equal(deployed[name], value)
