"""A client that would miss a simulated deadline sends what it has done by then, if its loop can be entered."""

import math

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError, TooFewClients
from umbel.runtimes.system import Turn

STEPS = 10


def counting(context):
    """Each step adds 1: what a client sends is how many steps it took, times 1."""
    data = np.zeros((STEPS, 1), np.float64)
    return fl.GradientClient(
        lambda params, xs: (float(params["w"][0]), {"w": -np.ones(1)}),
        {"w": np.zeros(1)},
        (data,),
        lr=1.0,
        batch_size=1,
    )


def seconds_of(client):
    """Client i takes i + 1 seconds: with a deadline of 4 the first four are done."""
    return 1.0 + int(client)


def run(client_fn=counting, clients=8, system=None, engine="serial", strategy=None, workers=None, **config):
    settings = {"num_rounds": 1, "seed": 1, "fraction_evaluate": 0.0, "round_timeout": 4.0, "quorum": 0.0, **config}
    events = []
    history = fl.simulate(
        client_fn,
        clients,
        strategy=strategy,
        config=fl.ServerConfig(**settings),
        system=system or fl.SystemModel(seconds_per_unit=seconds_of, watts=1.0, partial=True),
        engine=engine,
        workers=workers,
        progress=False,
        observers=[events.append],
    )
    return history, [dict(event["clients"]) for event in events if event["kind"] == "round" and "clients" in event]


def test_a_client_takes_the_share_of_its_steps_that_fits_before_the_deadline():
    history, (steps,) = run()
    assert steps == {str(i): math.floor(STEPS * min(1.0, 4.0 / (i + 1))) for i in range(8)}
    assert (history.rounds[-1].participants, history.simulated_s) == (8, 4.0)


def test_its_update_weighs_as_many_examples_as_it_trained_on():
    history, (steps,) = run()
    taken = np.array(list(steps.values()))
    assert history.parameters["w"][0] == pytest.approx((taken**2).sum() / taken.sum(), rel=1e-15)


def test_it_used_energy_until_the_deadline_only():
    assert run()[0].rounds[-1].joules == pytest.approx(sum(min(4.0, i + 1.0) for i in range(8)))


def test_without_it_late_clients_are_left_out():
    system = fl.SystemModel(seconds_per_unit=seconds_of)
    history, (steps,) = run(system=system)
    assert steps == {str(i): STEPS for i in range(4)}
    assert history.rounds[-1].failures == ()


def test_without_a_deadline_it_changes_nothing():
    one, two = (
        run(system=fl.SystemModel(seconds_per_unit=seconds_of, partial=partial), round_timeout=None)
        for partial in (True, False)
    )
    assert one[0].parameters == two[0].parameters
    assert one[1] == two[1] == [{str(i): STEPS for i in range(8)}]


@pytest.mark.parametrize("strategy", [fl.FedAvg(), fl.Scaffold(), fl.FedNova()], ids=lambda one: type(one).__name__)
def test_the_pool_gives_the_same_bits(strategy):
    system = fl.SystemModel(
        seconds_per_unit=fl.LogNormal(4.0, 1.0), upload_bytes_per_s=500.0, dropout=0.2, latency_s=0.1, partial=True
    )
    given = {"system": system, "strategy": strategy, "num_rounds": 4, "over_selection": 0.5, "fraction_fit": 0.5}
    serial, pool = run(**given), run(engine="pool", workers=2, **given)
    assert any(0 < steps < STEPS for phase in serial[1] for steps in phase.values())
    assert serial[0].parameters == pool[0].parameters
    assert serial[1] == pool[1]


def test_clients_that_were_built_leave_their_block_to_be_cut():
    torch = pytest.importorskip("torch")

    def client_fn(context):
        x = torch.linspace(0, 1, 10)[:, None]
        sgd = lambda params: torch.optim.SGD(params, lr=0.1)  # noqa: E731
        return fl.TorchClient(torch.nn.Linear(1, 1), torch.nn.MSELoss(), sgd, (x, 3 * x), batch_size=1)

    serial, blocks = run(client_fn, 16), run(client_fn, 16, engine="vmap", workers=1)
    assert serial[1] == blocks[1]
    np.testing.assert_allclose(serial[0].parameters["weight"], blocks[0].parameters["weight"], rtol=1e-4)


def test_blocks_take_partial_turns_one_by_one():
    x = np.linspace(0, 1, 80)[:, None].astype(np.float32)
    linear = fl.LinearClients((x, 3 * x[:, 0]), [np.arange(10 * i, 10 * i + 10) for i in range(8)], batch_size=1)
    serial, blocks = run(linear), run(linear, engine="vmap", workers=1)
    assert serial[1] == blocks[1]
    assert sorted(serial[1][0].values())[0] == 5
    np.testing.assert_allclose(serial[0].parameters["weight"], blocks[0].parameters["weight"], rtol=1e-4)


class Own(fl.NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(1)]

    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {}


def test_a_loop_of_ones_own_has_failed_at_the_deadline():
    history, _ = run(lambda context: Own())
    assert history.rounds[-1].participants == 4
    assert sorted(failure.client for failure in history.rounds[-1].failures) == ["4", "5", "6", "7"]
    assert all("partial work needs a client and a strategy" in f.reason for f in history.rounds[-1].failures)
    assert history.simulated_s == 4.0


def test_one_gradient_over_all_data_is_not_done_in_part():
    history, _ = run(strategy=fl.FedSGD())
    assert history.rounds[-1].participants == 4
    assert len(history.rounds[-1].failures) == 4


def test_who_has_not_done_a_single_step_has_failed():
    with pytest.raises(TooFewClients, match="had done none of its 10 steps at the deadline"):
        run(system=fl.SystemModel(seconds_per_unit=100.0, partial=True))


def turn(**changes):
    given = {
        "begins_s": 0.1,
        "download_s": 1.0,
        "work_s": 6.0,
        "upload_s": 2.0,
        "bytes_down": 0,
        "bytes_up": 0,
        "lost": "",
    }
    return Turn("0", 1, 0, **{"seconds": 9.0, **given, **changes})


def test_a_cut_turn_ends_at_the_deadline_and_not_a_rounding_later():
    # In some 20 of 1,000 such cases begins + (due - begins) lies above due.
    for begins, due in np.random.default_rng(0).uniform([0.0, 7.0], [3.0, 9.0], (1000, 2)).tolist():
        cut = turn(begins_s=begins).cut(due)
        assert cut.ends_s <= due
        assert cut.ends_s == pytest.approx(due, rel=1e-15)
        assert cut.share == pytest.approx((due - begins - 3.0) / 6.0)


def test_a_turn_that_cannot_even_travel_in_time_stays_late():
    assert turn().cut(3.0) == turn()
    assert turn().cut(9.2) == turn()


def test_who_would_have_been_lost_after_the_deadline_has_answered():
    dropped = turn(seconds=7.0, lost="dropped out")
    assert dropped.cut(7.2) == dropped
    assert (dropped.cut(6.1).lost, dropped.cut(6.1).share) == ("", 0.5)


def test_turns_know_their_steps():
    torch = pytest.importorskip("torch")
    nn, data = torch.nn, (torch.zeros(10, 2), torch.zeros(10, dtype=torch.long))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=5, drop_last=True)

    def steps(train, **more):
        return fl.TorchClient(nn.Linear(2, 2), nn.CrossEntropyLoss(), None, train, **more).turn_steps

    assert steps(data, batch_size=4, epochs=3) == 9
    assert steps(data, batch_size=4, epochs=3, max_steps=5) == 5
    assert steps(loader, epochs=2) == 4
    assert steps(torch.utils.data.TensorDataset(*data), batch_size=3) == 4

    class Endless:
        def __iter__(self):
            return iter([data])

    assert steps(Endless()) is None


def test_partial_is_a_yes_or_a_no():
    with pytest.raises(ConfigError, match="partial must be True or False"):
        fl.SystemModel(partial=0.5)
