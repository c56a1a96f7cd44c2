"""Rounds on a simulated clock: over-selection, deadlines, failures and windows as on real nodes, to the bit."""

import math
from dataclasses import replace

import numpy as np
import pytest

import umbel as fl
from umbel.coordinators import Everyone
from umbel.coordinators.population import cohort_key
from umbel.errors import ConfigError, NotSupported, RoundError, TooFewClients
from umbel.runtimes.system import Turn
from umbel.testing import Quadratics, WithHead

HEAVY = fl.SystemModel(
    seconds_per_unit=fl.LogNormal(1.0, 1.5),
    upload_bytes_per_s=fl.Pareto(100.0, 1.5),
    availability=fl.OnOff(fl.LogNormal(60.0, 0.5), 30.0),
    dropout=0.1,
    watts=2.0,
    joules_per_byte=0.01,
)


def run(toy=None, system=None, engine="serial", workers=None, strategy=None, store=None, resume=None, **config):
    toy = toy or Quadratics(clients=20)
    settings = fl.ServerConfig(**{"num_rounds": 5, "fraction_fit": 0.4, "seed": 4, "fraction_evaluate": 0.2, **config})
    return fl.simulate(
        getattr(toy, "client", toy),
        getattr(toy, "clients", 20),
        strategy=strategy,
        config=settings,
        system=system,
        engine=engine,
        workers=workers,
        store=store,
        resume=resume,
        progress=False,
        initial_parameters=[np.zeros(2)] if toy is Failing else None,
    )


def story(history):
    return [replace(record, seconds=0.0) for record in history.rounds]


@pytest.mark.parametrize(
    ("strategy", "toy"),
    [
        (fl.FedAvg(), Quadratics(clients=20)),
        (fl.FedAvg(reducer=fl.Mean(exact=False)), Quadratics(clients=20)),
        (fl.Scaffold(), Quadratics(clients=20)),
        (fl.FedAvg(shared="backbone.*"), WithHead(clients=20)),
    ],
    ids=repr,
)
def test_equal_speeds_change_nothing_but_the_clock(strategy, toy):
    timed, untimed = (run(toy, system, strategy=strategy, fraction_evaluate=0.7) for system in (fl.SystemModel(), None))
    assert timed.parameters == untimed.parameters
    assert [r.loss for r in timed.rounds] == [r.loss for r in untimed.rounds]
    assert [r.simulated_s for r in timed.rounds] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert untimed.simulated_s == 0.0


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_pool_of_any_size_tells_the_same_story_as_serial(workers):
    toy = WithHead(clients=12)
    config = {"over_selection": 0.5, "round_timeout": 6.0, "strategy": fl.FedAvg(shared="backbone.*")}
    serial, pool = (
        run(toy, HEAVY, engine=engine, workers=count, **config) for engine, count in (("serial", 1), ("pool", workers))
    )
    assert pool.parameters == serial.parameters
    assert story(pool) == story(serial)


def heard(observed):
    """An observer that notes who took part."""
    return lambda event: observed.append([c for c, _ in event["clients"]]) if event["kind"] == "round" else None


def turns_of(model, clients, seed=4, time_s=0.0):
    return {client: model.turn(client, 1, time_s, seed=seed) for client in clients}


def cohort(count, seed=4, clients=20):
    return Everyone(clients).sample(cohort_key(seed, 1, 0, "fit"), count)


def one_round(model, **config):
    took_part = []
    history = fl.simulate(
        Quadratics(clients=20).client,
        20,
        config=fl.ServerConfig(num_rounds=1, fraction_fit=0.4, seed=4, fraction_evaluate=0.0, **config),
        system=model,
        engine="serial",
        progress=False,
        observers=[heard(took_part)],
    )
    return history.rounds[-1], took_part[-1]


def test_over_selection_keeps_the_first_to_arrive():
    model = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.0), watts=2.0)
    record, took_part = one_round(model, over_selection=0.5)
    turns = turns_of(model, cohort(12))
    first = sorted(turns, key=lambda client: turns[client].seconds)[:8]
    assert took_part == sorted(first)
    assert record.simulated_s == turns[first[-1]].seconds
    assert record.failures == ()
    worked = sum(min(turn.seconds, record.simulated_s) for turn in turns.values())
    assert record.joules == pytest.approx(2.0 * worked)


def test_a_deadline_closes_the_round_with_those_who_made_it():
    model = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.0))
    turns = turns_of(model, cohort(8))
    deadline = sorted(turn.seconds for turn in turns.values())[4]
    record, took_part = one_round(model, round_timeout=deadline)
    assert took_part == sorted(client for client, turn in turns.items() if turn.seconds <= deadline)
    assert (record.participants, record.simulated_s) == (5, deadline)


def test_a_client_that_drops_out_is_replaced_at_that_moment():
    model = fl.SystemModel(dropout=0.3)
    record, took_part = one_round(model)
    lost = {c: turn for c, turn in turns_of(model, cohort(8)).items() if turn.lost}
    assert 0 < len(lost) < 8
    assert set(lost) <= {failure.client for failure in record.failures}
    assert len(took_part) == 8
    assert record.simulated_s >= 1.0 + min(turn.seconds for turn in lost.values())


class Failing(fl.NumPyClient):
    """Those with an odd index fail when they are really played."""

    def __init__(self, context):
        self.index = context.partition_id

    def fit(self, parameters, config):
        if self.index % 2:
            raise RuntimeError("odd")
        return [parameters[0] + self.index], 1, {}


def test_a_failure_that_only_playing_shows_counts_at_its_time():
    model = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.0))
    record = run(Failing, model, fraction_evaluate=0.0, num_rounds=1, over_selection=0.25).rounds[-1]
    # Told by hand: ten at once, the first eight that do not fail count, and who fails is replaced at that moment.
    everyone = Everyone(20)
    key = cohort_key(4, 1, 0, "fit")
    first = everyone.sample(key, 10)
    reserve = [client for client in everyone.sample(key, 20) if client not in first]
    events = [(turn.seconds, client) for client, turn in turns_of(model, first).items()]
    accepted, failed, now = [], [], 0.0
    while len(accepted) < 8 and events:
        now, client = min(events)
        events.remove((now, client))
        if int(client) % 2 == 0:
            accepted.append(client)
            continue
        failed.append(client)
        if reserve:
            instead = reserve.pop(0)
            events.append((now + model.turn(instead, 1, now, seed=4).seconds, instead))
    assert [failure.client for failure in record.failures] == failed
    assert record.participants == len(accepted)
    assert record.simulated_s == pytest.approx(now)
    assert "odd" in record.failures[0].reason


def test_clients_that_are_away_are_not_asked():
    model = fl.SystemModel(availability=fl.OnOff(100.0, 100.0))
    record, took_part = one_round(model)
    assert took_part
    assert all(model.is_there(client, 0.0, 4) for client in took_part)
    assert record.failures == ()


def test_where_nobody_is_there_time_passes_until_somebody_is():
    trace = fl.Trace.of([(500, "0", "on"), (700, "1", "on")])
    one = run(system=fl.SystemModel(availability=trace), num_rounds=1, min_fit_clients=1)
    two = run(system=fl.SystemModel(availability=trace), num_rounds=1, min_available_clients=20)
    assert (one.simulated_s, two.simulated_s) == (501.0, 701.0)


def test_where_nobody_ever_comes_the_run_ends_with_a_sentence():
    gone = fl.Trace.of([(0, "0", "off")])
    with pytest.raises(TooFewClients, match="never 1 clients at a time"):
        run(system=fl.SystemModel(availability=gone))


def test_clients_that_take_forever_end_the_run_unless_there_is_a_deadline():
    stuck = fl.SystemModel(upload_bytes_per_s=lambda client: 0.0 if client == cohort(8)[0] else 1e6)
    with pytest.raises(RoundError, match="1 clients take forever"):
        run(system=stuck, num_rounds=1)
    record = run(system=stuck, num_rounds=1, round_timeout=9.0).rounds[-1]
    assert (record.participants, record.simulated_s) == (7, 9.0)


def test_the_losers_of_over_selection_are_never_played():
    played = []

    def client(context):
        played.append(context.client)
        return Quadratics(clients=20).client(context)

    model = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.0))
    run(client, model, over_selection=1.0, num_rounds=1, fraction_evaluate=0.0)
    assert len(played) == 1 + 8  # one is looked at before the run


def test_bytes_are_those_of_everyone_who_was_asked_and_of_every_answer():
    turns = list(turns_of(fl.SystemModel(), cohort(8)).values())
    assert all(isinstance(turn, Turn) for turn in turns)
    record, _ = one_round(fl.SystemModel(seconds_per_unit=fl.LogNormal()), over_selection=0.5)
    untimed = run(num_rounds=1, fraction_evaluate=0.0).rounds[-1]
    assert record.bytes_sent == untimed.bytes_sent / 8 * 12
    assert record.bytes_received == untimed.bytes_received


@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_run_goes_on_at_its_time(every, tmp_path):
    config = {"over_selection": 0.5, "round_timeout": 6.0, "checkpoint_every": every, "strategy": fl.Scaffold()}
    whole = run(system=HEAVY, num_rounds=6, **config)
    run(system=HEAVY, num_rounds=3, store=tmp_path / "runs.db", **config)
    resumed = run(system=HEAVY, num_rounds=6, store=tmp_path / "runs.db", resume="last", **config)
    assert resumed.parameters == whole.parameters
    # The last round of the first part was evaluated because it was the last.
    assert [(r.simulated_s, r.joules, r.bytes_sent) for r in resumed.rounds] == [
        (r.simulated_s, r.joules, r.bytes_sent) for r in whole.rounds
    ]


def test_another_model_of_time_is_another_run(tmp_path):
    run(system=HEAVY, store=tmp_path / "runs.db")
    for other in (None, fl.SystemModel(), replace(HEAVY, dropout=0.2)):
        with pytest.raises(ConfigError, match="not the run that was begun"):
            run(system=other, store=tmp_path / "runs.db", resume="last")


def test_a_plan_keeps_a_traces_digest_and_not_its_records():
    trace = fl.Trace.of([(0, "secret name", "on")])
    plan = run(system=fl.SystemModel(availability=trace), num_rounds=1).plan
    assert plan["system"]["availability"] == {"name": "Trace", "digest": trace.digest, "period_s": None}
    assert "secret name" not in repr(plan)


def test_devices_that_check_in_are_refused_with_a_model_of_time():
    with pytest.raises(NotSupported, match="leave arrivals out"):
        run(
            system=fl.SystemModel(), arrivals=True, round_timeout=60.0, fraction_fit=1.0, fraction_evaluate=0.0,
            min_fit_clients=2,
        )  # fmt: skip
    with pytest.raises(ConfigError, match="system must be a SystemModel"):
        run(system={"work": 3})


def test_a_table_has_the_simulated_time():
    pytest.importorskip("pandas")
    frame = run(system=HEAVY).to_pandas()
    assert list(frame["simulated_s"]) == sorted(frame["simulated_s"])
    assert (frame["joules"] > 0).all()
    assert "simulated_s" not in run().to_pandas()


def test_a_printed_history_tells_the_simulated_time():
    lines = str(run(system=fl.SystemModel(), num_rounds=2)).splitlines()
    assert lines[0].split()[-2:] == ["simulated", "seconds"]
    assert [line.split()[-2] for line in lines[1:]] == ["1.0", "2.0"]
    assert "simulated" not in str(run(num_rounds=1))


def test_a_round_with_too_few_answers_is_tried_again_later():
    model = fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.0), dropout=0.4)
    history = run(system=model, quorum=0.8, round_retries=50, round_timeout=1.5, num_rounds=1)
    record = history.rounds[-1]
    assert record.participants >= 8 * 0.8
    assert record.simulated_s > 1.5
    assert math.isfinite(record.joules)
