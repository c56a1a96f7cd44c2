"""`start_client(check_in=True)` and `start_server` with arrivals."""

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError

ARRIVALS = {"arrivals": True, "round_timeout": 2.0, "round_retries": 50, "fraction_evaluate": 0.0, "seed": 1}


class One(fl.NumPyClient):
    def fit(self, parameters, config):
        return [w + 1 for w in parameters], 1, {}


def client_fn(context):
    return One()


@pytest.mark.timeout(60)
def test_clients_that_check_in_play_rounds_and_hear_of_the_end(federation):
    history = federation.run(
        [str(number) for number in range(3)],
        client_fn,
        check_in=True,
        # Both have to answer: on a busy machine one may miss the deadline, and the round is repeated.
        config=fl.ServerConfig(num_rounds=3, min_fit_clients=2, quorum=1.0, **ARRIVALS),
        strategy=fl.FedAvg(),
        initial_parameters=[np.zeros(3, np.float32)],
    )
    assert [record.participants for record in history.rounds if record.round] == [2, 2, 2]
    assert history.parameters["0"].tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("strategy", [fl.Scaffold(), fl.FedDyn()])
def test_strategies_that_count_clients_are_refused_before_the_run(strategy):
    with pytest.raises(ConfigError, match="arrivals=True"):
        fl.server.start_server("127.0.0.1:0", fl.ServerConfig(**ARRIVALS), strategy, progress=False)
