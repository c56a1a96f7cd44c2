"""The pool: same bits as serial, dead and slow workers, threads, closures, Ctrl-C."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes.pool.safety import UNFORKABLE, why_not_fork
from umbel.testing import check_engine


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_pool_keeps_the_laws_of_engines(workers):
    check_engine("pool", workers)


class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 10, {}


def config(**changes):
    return fl.ServerConfig(**{"num_rounds": 2, "seed": 1, "fraction_evaluate": 0.0, **changes})


def pool(client_fn, clients=6, workers=2, **changes):
    return fl.simulate(
        client_fn,
        clients,
        config=config(**changes),
        initial_parameters=[np.zeros(3)],
        engine="pool",
        workers=workers,
        progress=False,
    )


def test_a_client_that_kills_its_worker_twice_has_failed_and_nothing_else_is_lost():
    def client_fn(context):
        class Killer(Adds):
            def fit(self, parameters, config):
                os.kill(os.getpid(), signal.SIGKILL)

        return Killer() if context.partition_id == 2 else Adds()

    history = pool(client_fn)
    assert history.parameters["0"].tolist() == [2.0, 2.0, 2.0]
    for record in history.rounds:
        assert record.participants == 5
        assert [f.client for f in record.failures] == ["2"]
        assert "its worker process died twice (killed by SIGKILL" in record.failures[0].reason


def test_a_worker_that_dies_once_is_replaced_and_its_clients_asked_again(tmp_path):
    marker = tmp_path / "died"

    def client_fn(context):
        class Once(Adds):
            def fit(self, parameters, config):
                if context.partition_id == 3 and not marker.exists():
                    marker.touch()
                    os._exit(7)
                return [parameters[0] + context.partition_id + context.rng.random(3)], 10, {}

        return Once()

    disturbed = pool(client_fn)
    undisturbed = fl.simulate(
        client_fn, 6, config=config(), initial_parameters=[np.zeros(3)], engine="serial", progress=False
    )
    assert marker.exists()
    assert disturbed.parameters == undisturbed.parameters
    assert not disturbed.rounds[0].failures


RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((400, 5)).astype(np.float32)
LABELS = ROWS[:, :3].argmax(1)


def linear(dies=lambda client: False):
    """Forty clients in blocks of eight, some of whom end their worker when their rows are looked up."""

    def part(client):
        if dies(client):
            os._exit(7)
        return np.arange(client, client + 3 + client * 7 % 19)

    return fl.simulate(
        fl.LinearClients((ROWS, LABELS), part, batch_size=4, epochs=2),
        40,
        config=config(num_rounds=3),
        engine="vmap",
        block=8,
        workers=2,
        progress=False,
    )


def test_a_block_whose_worker_died_is_played_again_as_it_was(tmp_path):
    def dies(client):
        marker = tmp_path / str(client)
        if client not in (5, 20, 35) or marker.exists():
            return False
        marker.touch()
        return True

    disturbed, undisturbed = linear(dies), linear()
    assert len(list(tmp_path.iterdir())) == 3
    assert disturbed.parameters == undisturbed.parameters
    assert not disturbed.warnings


def test_a_client_that_kills_every_worker_fails_alone_and_its_block_is_said_to_be_played_apart():
    history = linear(lambda client: client == 20)
    for record in history.rounds:
        assert [failure.client for failure in record.failures] == ["20"]
        assert record.participants == 39
    (said,) = history.warnings
    assert "died twice with a block of 8 clients" in said


def test_workers_that_all_die_end_the_run_with_a_typed_error():
    def client_fn(context):
        class Killer(Adds):
            def fit(self, parameters, config):
                os._exit(9)

        return Killer()

    with pytest.raises(fl.TooFewClients, match="died twice"):
        pool(client_fn, clients=3)


def test_a_client_that_never_returns_is_given_up_and_its_worker_replaced():
    def client_fn(context):
        class Sleeps(Adds):
            def fit(self, parameters, config):
                while context.partition_id == 1:
                    time.sleep(60)
                return super().fit(parameters, config)

        return Sleeps()

    started = time.monotonic()
    history = pool(client_fn, num_rounds=1, client_timeout=0.5)
    assert history.rounds[0].failures[0].reason == "did not answer within client_timeout = 0.5 s"
    assert history.rounds[0].participants == 5
    assert time.monotonic() - started < 30


def test_the_median_gives_the_same_bits_however_updates_are_spread():
    def client_fn(context):
        class Noisy(Adds):
            def fit(self, parameters, config):
                return [parameters[0] + context.rng.standard_normal(3)], 1, {}

        return Noisy()

    results = [
        fl.simulate(
            client_fn,
            9,
            strategy=fl.FedAvg(reducer=fl.Median()),
            config=config(),
            initial_parameters=[np.zeros(3)],
            engine=engine,
            workers=workers,
            progress=False,
        ).parameters
        for engine, workers in (("serial", 1), ("pool", 2), ("pool", 3))
    ]
    assert results[0] == results[1] == results[2]


def test_ten_thousand_clients_a_round_fit_the_token_pipe():
    history = pool(lambda context: Adds(), clients=10_000, num_rounds=1)
    assert history.rounds[0].participants == 10_000
    assert history.parameters["0"].tolist() == [1.0, 1.0, 1.0]


def test_a_second_python_thread_forbids_the_fork_and_the_seed_gives_the_same_bits(monkeypatch):
    def client_fn(context):
        offset = context.partition_id

        class Closure(Adds):
            def fit(self, parameters, config):
                return [parameters[0] + offset + np.random.rand(3)], 1, {}

        return Closure()

    reference = pool(client_fn)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with monkeypatch.context() as patch:
            for name in UNFORKABLE:  # another test of this process may have imported one
                patch.delitem(sys.modules, name, raising=False)
            assert "Python threads are alive" in why_not_fork()
        seeded = pool(client_fn)
    finally:
        done.set()
        thread.join()
    assert seeded.parameters == reference.parameters


@pytest.mark.skipif(sys.platform != "linux", reason="workers die with their seed on Linux only")
def test_another_seed_takes_over_when_one_is_killed(tmp_path):
    marker = str(tmp_path / "killed")

    def client_fn(context):
        class Regicide(Adds):
            def fit(self, parameters, config):
                if context.partition_id == 3 and not os.path.exists(marker):
                    open(marker, "w").close()
                    os.kill(os.getppid(), signal.SIGKILL)
                return [parameters[0] + context.partition_id], 10, {}

        return Regicide()

    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        assert why_not_fork() is not None
        history = pool(client_fn)
    finally:
        stop.set()
        other.join()
    assert os.path.exists(marker)
    assert history.parameters["0"].tolist() == [5.0, 5.0, 5.0]
    assert not any(record.failures for record in history.rounds)


def test_what_cannot_be_sent_to_a_seed_is_named():
    lock = threading.Lock()

    def client_fn(context):
        class Locked(Adds):
            def fit(self, parameters, config):
                with lock:
                    return parameters, 1, {}

        return Locked()

    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(fl.UmbelError, match="client_fn cannot be sent to worker processes"):
            pool(client_fn)
    finally:
        done.set()
        thread.join()


def child_processes():
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


def test_no_process_and_no_descriptor_is_left_behind():
    children = child_processes()  # a fixture of another file may have some
    pool(lambda context: Adds())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        pool(lambda context: Adds())
    assert len(os.listdir("/proc/self/fd")) == before
    assert child_processes() <= children


SCRIPT = """
import os, sys, time
import numpy as np
import umbel as fl

class Slow(fl.NumPyClient):
    def fit(self, parameters, config):
        if config["server_round"] > 2:
            os.write(1, b"in round 3" + os.linesep.encode())
            time.sleep(60)
        return [parameters[0] + 1.0], 1, {}

def client_fn(context):
    return Slow()

history = fl.simulate(client_fn, 4, config=fl.ServerConfig(num_rounds=9, seed=1),
                      initial_parameters=[np.zeros(2)], engine=sys.argv[1], progress=False)
print(history.ended, len(history.rounds), history.parameters["0"].tolist(), flush=True)
"""


@pytest.mark.parametrize("engine", ["serial", "pool"])
def test_ctrl_c_ends_in_under_a_second_with_the_finished_rounds_kept(engine, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), engine], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in round 3\n"
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    # The promise is a second; a busy machine may take a few to schedule the process at all.
    assert time.monotonic() - started < 5
    assert "interrupted 2 [2.0, 2.0]" in out
    assert process.returncode == 0


BORN = """
import os, signal, sys
import numpy as np
import umbel as fl

# As if Ctrl-C came at the moment in which a worker begins.
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))

class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {}

history = fl.simulate(lambda context: Adds(), 4, config=fl.ServerConfig(num_rounds=2, seed=1, fraction_evaluate=0.0),
                      initial_parameters=[np.zeros(2)], engine="pool", workers=2, progress=False)
print(history.ended, history.parameters["0"].tolist(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_a_worker_that_is_just_born_does_not_answer_ctrl_c(tmp_path):
    (tmp_path / "script.py").write_text(BORN)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "finished [2.0, 2.0] set()\n"
    assert done.stderr == ""


def run_python(arguments, cwd, timeout=120):
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_works_under_python_dash_m_and_without_a_main_guard(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "job.py").write_text(SCRIPT.replace("> 2", "> 99"))
    assert "finished 9 [9.0, 9.0]" in run_python(["-m", "pack.job", "pool"], tmp_path)
    threaded = "import threading; threading.Thread(target=__import__('time').sleep, args=(8,), daemon=True).start()\n"
    (tmp_path / "script.py").write_text(threaded + SCRIPT.replace("> 2", "> 99"))
    assert "finished 9 [9.0, 9.0]" in run_python(["script.py", "pool"], tmp_path)


def test_a_pool_after_the_users_own_two_threaded_torch_training(tmp_path):
    pytest.importorskip("torch")
    script = textwrap.dedent("""
        import torch
        from torch import nn
        import umbel as fl
        torch.set_num_threads(2)
        x, y = torch.randn(512, 256), torch.randint(0, 10, (512,))
        model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
        for _ in range(20):
            nn.CrossEntropyLoss()(model(x), y).backward()
        def client_fn(context):
            net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
            return fl.TorchClient(net, nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, lr=0.1), (x, y))
        history = fl.simulate(client_fn, 4, config=fl.ServerConfig(num_rounds=2, seed=1), engine="pool", workers=2,
                              progress=False)
        print(history.ended, torch.get_num_threads())
    """)
    (tmp_path / "script.py").write_text(script)
    assert "finished 2" in run_python(["script.py"], tmp_path)


def test_the_pool_works_in_a_real_notebook_kernel():
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    cells = [
        "import numpy as np, umbel as fl\noffset = 2.0",
        """class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + offset], 1, {}""",
        """history = fl.simulate(lambda context: Adds(), 4, config=fl.ServerConfig(num_rounds=3),
    initial_parameters=[np.zeros(2)], engine="pool", workers=2, progress=False)
assert history.parameters["0"].tolist() == [6.0, 6.0], history.parameters""",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()


def test_no_worker_outlives_its_run_though_its_client_never_looks_up(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, str(script), "pool"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in round 3\n"
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert workers
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(is_alive(pid) for pid in workers)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
