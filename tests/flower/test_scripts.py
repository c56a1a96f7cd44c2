"""Scripts written for Flower run unchanged under `python -m umbel.flower`; what is not there says what to use."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).with_name("scripts")


def start(*arguments, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-u", "-m", "umbel.flower", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def run(*arguments) -> tuple[str, str]:
    """(stdout, stderr) of a script that ends well."""
    script = start(*arguments)
    out, err = script.communicate(timeout=120)
    assert script.returncode == 0, err
    return out, err


def fails(tmp_path, text) -> str:
    """The last line that a script of this text leaves behind."""
    (tmp_path / "script.py").write_text(text, "utf-8")
    script = start(tmp_path / "script.py")
    _, err = script.communicate(timeout=60)
    assert script.returncode == 1
    return err.strip().splitlines()[-1]


def test_a_server_and_its_clients_as_separate_programs():
    script = SCRIPTS / "federation.py"
    server = start(script, "server", "127.0.0.1:0")
    assert server.stdout is not None
    address = re.search(r"listening at (\S+)", server.stdout.readline())
    assert address is not None
    clients = [start(script, "client", address[1], index) for index in (0, 1)]
    out, err = server.communicate(timeout=120)
    assert server.returncode == 0, err
    losses = [float(text) for text in re.search(r"losses: \[(.*)\]", out)[1].split(", ")]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]
    assert "largest: 3" in out
    for client in clients:
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err


def test_a_simulation_with_contexts_states_and_messages():
    out, err = run(SCRIPTS / "simulation.py")
    assert "losses: [(0, 9.5), (1, 4.75), (2, 2.375), (3, 1.1875), (4, 0.59375)]" in out
    assert "turns: [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]" in out
    assert "umbel.flower: client_resources has no meaning here and no effect" in err


def test_a_strategy_with_config_and_metrics_functions():
    out, _ = run(SCRIPTS / "custom.py")
    assert "losses: [(1, 0.5), (2, 1.0), (3, 1.25)]" in out
    assert "accuracy: [(1, 0.4), (2, 0.4), (3, 0.4)]" in out
    assert "clients: [(1, 4.0), (2, 4.0), (3, 4.0)]" in out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("from flwr.client import ClientApp", "ImportError: flwr.client has no 'ClientApp' .*make the folder an Umbel"),
        ("from flwr.clientapp import ClientApp", "ImportError: flwr has no 'clientapp' under .*Umbel app"),
        (
            "import flwr.server.workflow",
            "ImportError: flwr.server has no 'workflow' .* there are History, ServerConfig",
        ),
        ("import flwr as fl; fl.server.strategy.Krum()", "AttributeError: .*no 'Krum' .*umbel.Median"),
        ("from flwr.common.logger import log", "ImportError: flwr.common has no 'logger' .*logging"),
        ("import flwr; assert not hasattr(flwr.server, 'Driver'); flwr.x", "AttributeError: flwr has no 'x' .*client"),
        (
            "import flwr as fl\nclass Saves(fl.server.strategy.FedAvg):\n    pass",
            "FedAvg cannot be subclassed here: .*evaluate_fn",
        ),
        ("import flwr as fl; fl.server.start_server(server=1)", "server=... has no counterpart here"),
        ("import flwr as fl; fl.server.start_server(certificates=(b'', b'', b''))", "certificates=... would make"),
        (
            "import flwr as fl; fl.simulation.start_simulation(client_fn=lambda cid: None)",
            "num_clients is missing",
        ),
        ("import flwr as fl; fl.server.strategy.FedAvg(mu=1)", "FedAvg has no argument 'mu'"),
        (
            "import flwr as fl\nfl.client.start_client(server_address='127.0.0.1:1', client=fl.client.NumPyClient())",
            "can neither be trained nor evaluated|give it at least one of|return loss, num_examples, metrics",
        ),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_not_there_says_what_to_use(tmp_path, text, sentence):
    assert re.search(sentence, fails(tmp_path, text)), fails(tmp_path, text)


def test_without_a_script_the_usage_is_shown(tmp_path):
    for arguments in ((), (tmp_path / "nowhere.py",)):
        script = start(*arguments)
        _, err = script.communicate(timeout=60)
        assert script.returncode == 1
        assert "usage: python -m umbel.flower script.py" in err


def test_a_script_sees_its_own_folder_and_arguments(tmp_path):
    (tmp_path / "beside.py").write_text("NAME = 'beside'", "utf-8")
    (tmp_path / "script.py").write_text(
        "import sys, flwr.common\nfrom beside import NAME\nprint(NAME, sys.argv[1:], __name__, flwr.common.__name__)",
        "utf-8",
    )
    out, _ = run(tmp_path / "script.py", "--rounds", "3")
    assert out.strip() == "beside ['--rounds', '3'] __main__ flwr.common"


def test_importing_the_package_alone_changes_no_import():
    code = "import sys, umbel.flower.finder; print([type(f) for f in sys.meta_path if 'umbel' in type(f).__module__])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def test_proximal_mu_reaches_the_clients_config():
    from umbel.flower.strategy import FedProx

    routed = FedProx(proximal_mu=0.5, on_fit_config_fn=lambda server_round: {"round": server_round}, fraction_fit=0.5)
    assert routed.run["on_fit_config_fn"](3) == {"round": 3, "proximal_mu": 0.5}
    assert FedProx(proximal_mu=0.5).run["on_fit_config_fn"](1) == {"proximal_mu": 0.5}
    assert routed.config == {"fraction_fit": 0.5}


def test_arrays_become_parameters_and_arrays_again():
    import numpy as np

    from umbel.flower.common import ndarrays_to_parameters, parameters_to_ndarrays

    arrays = [np.arange(6.0).reshape(2, 3), np.array(7, np.int32)]
    again = parameters_to_ndarrays(ndarrays_to_parameters(arrays))
    assert [a.tolist() for a in again] == [a.tolist() for a in arrays]
    assert [a.dtype for a in again] == [a.dtype for a in arrays]
    assert all(a.flags.writeable for a in again)
