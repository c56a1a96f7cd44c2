"""Laws of the model of time: distributions, windows, traces, turns."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import umbel as fl
from umbel.coordinators import Everyone
from umbel.errors import ConfigError
from umbel.runtimes.system import Present

SPREADS = [fl.LogNormal(2.0, 1.5), fl.HalfNormal(3.0), fl.Pareto(1.0, 1.2), fl.Zipf(1.5, 50), fl.Empirical([3, 1, 2])]
DAY_S = 86_400.0
TRACE = [(0, "a", "on"), (40, "a", "off"), (70, "a", "on"), (90, "b", 1), (95, "b", 0)]
WINDOWS = [
    fl.Always(),
    fl.OnOff(600.0, fl.LogNormal(900.0, 1.0)),
    fl.Diurnal(from_hour=22, hours=fl.LogNormal(8.0, 0.5), chance=0.6),
    fl.Diurnal(hours=30, spread_hours=10),
    fl.Trace.of(TRACE),
    fl.Trace.of(TRACE, period_s=100.0),
]
UNIT = st.floats(1e-12, 1 - 1e-12)


@pytest.mark.parametrize("spread", SPREADS, ids=repr)
@given(u=UNIT, v=UNIT)
def test_quantiles_grow_and_are_no_less_than_nothing(spread, u, v):
    low, high = sorted((u, v))
    assert 0 <= spread.quantile(low) <= spread.quantile(high) < math.inf


@pytest.mark.parametrize(
    ("spread", "mean"),
    [
        (fl.LogNormal(2.0, 0.5), 2.0 * math.exp(0.125)),
        (fl.HalfNormal(3.0), 3.0 * math.sqrt(2 / math.pi)),
        (fl.Pareto(1.0, 4.0), 4 / 3),
        (fl.Zipf(1.0, 3), 3 / (1 + 1 / 2 + 1 / 3)),
        (fl.Empirical([1, 2, 6]), 3.0),
    ],
    ids=repr,
)
def test_distributions_have_the_mean_that_books_tell(spread, mean):
    middles = (np.arange(100_000) + 0.5) / 100_000
    assert np.mean([spread.quantile(u) for u in middles]) == pytest.approx(mean, rel=2e-3)


def test_speeds_are_spread_as_their_distribution_and_differ_by_seed():
    model = fl.SystemModel(seconds_per_unit=fl.LogNormal(2.0, 1.0))
    times = [[model.turn(str(c), 1, 0.0, seed=seed).seconds for c in range(4000)] for seed in (1, 2)]
    assert np.median(times[0]) == pytest.approx(2.0, rel=0.1)
    assert np.std(np.log(times[0])) == pytest.approx(1.0, rel=0.1)
    assert times[0] != times[1]


@pytest.mark.parametrize("windows", WINDOWS, ids=repr)
@given(client=st.integers(0, 30), time_s=st.floats(0, 20 * DAY_S), within=st.floats(0, 0.999))
def test_a_window_is_the_same_from_anywhere_inside(windows, client, time_s, within):
    begin, end = windows.window(str(client), time_s, 5)
    if math.isinf(begin) and begin > 0:
        return
    assert begin < end
    assert end > time_s
    if math.isfinite(end):
        inside = max(begin, time_s) + within * (end - max(begin, time_s))
        if inside < end - 1e-6:
            found = windows.window(str(client), inside, 5)
            assert found[0] <= inside + 1e-6
            assert found[1] == pytest.approx(end, abs=1e-6)
        assert windows.window(str(client), end + 1e-6, 5)[0] >= end - 1e-6


def test_a_diurnal_fleet_swings_around_the_earth():
    fleet = fl.Diurnal(from_hour=0, hours=6, spread_hours=0, zones=2)
    model = fl.SystemModel(availability=fleet)
    there = [{c for c in range(200) if model.is_there(str(c), hour * 3600.0, 1)} for hour in (3, 9, 15)]
    assert len(there[0]) + len(there[2]) == 200
    assert there[0].isdisjoint(there[2])
    assert there[1] == set()
    assert min(len(there[0]), len(there[2])) > 70


def test_a_trace_says_when_its_clients_were_there_and_serves_others():
    trace = fl.Trace.of(TRACE)
    assert trace.window("a", 10.0, 1) == (0.0, 40.0)
    assert trace.window("a", 50.0, 1) == (70.0, math.inf)
    assert trace.window("b", 95.0, 1) == (math.inf, math.inf)
    others = {trace.window(str(c), 0.0, 1) for c in range(50)}
    assert others == {trace.window("a", 0.0, 1), trace.window("b", 0.0, 1)}


def test_a_trace_that_repeats_joins_its_end_to_its_beginning():
    trace = fl.Trace.of(TRACE, period_s=100.0)
    assert trace.window("a", 75.0, 1) == (70.0, 140.0)
    assert trace.window("a", 110.0, 1) == (70.0, 140.0)
    assert trace.window("b", 96.0, 1) == (190.0, 195.0)
    assert fl.Trace.of([(0, "a", "on")], period_s=9.0).window("a", 30.0, 1)[1] == math.inf


def test_a_trace_is_read_from_csv_and_parquet(tmp_path):
    text = "time,client,state\n" + "\n".join(f"{t},{c},{s}" for t, c, s in TRACE)
    (tmp_path / "trace.csv").write_text(text, "utf-8")
    assert fl.Trace.read(tmp_path / "trace.csv") == fl.Trace.of(TRACE)
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = {"time": [r[0] for r in TRACE], "client": [r[1] for r in TRACE], "state": [str(r[2]) for r in TRACE]}
    pq.write_table(pa.table(columns), tmp_path / "trace.parquet")
    assert fl.Trace.read(tmp_path / "trace.parquet") == fl.Trace.of(TRACE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,client\n1,a\n", "lacks the column 'state'"),
        ("time,client,state\n-1,a,on\n", "record 1: time must be"),
        ("time,client,state\n0,a,on\n1,a,asleep\n", "record 2: state must be one of"),
        ("time,client,state\n", "at least one client"),
    ],
)
def test_a_trace_that_is_none_is_refused_with_its_place(text, said, tmp_path):
    (tmp_path / "trace.csv").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=said):
        fl.Trace.read(tmp_path / "trace.csv")
    with pytest.raises(ConfigError, match="cannot be read"):
        fl.Trace.read(tmp_path / "none.csv")


def test_a_turn_is_latency_bytes_and_work():
    model = fl.SystemModel(
        seconds_per_unit=2.0,
        work=lambda client: int(client),
        download_bytes_per_s=100.0,
        upload_bytes_per_s=50.0,
        latency_s=0.25,
        watts=3.0,
        joules_per_byte=0.01,
    )
    turn = model.turn("7", 1, 10.0, seed=1, bytes_down=200, bytes_up=100)
    assert turn.seconds == 0.25 + 2.0 + 14.0 + 0.25 + 2.0
    assert turn.joules() == pytest.approx(3.0 * 14 + 0.01 * 300)
    assert turn.joules(10.0 + 2.25 + 7.0) == pytest.approx(3.0 * 7 + 0.01 * 200)
    assert turn.joules(10.0 + 2.25 + 14.0 + 0.5625) == pytest.approx(3.0 * 14 + 0.01 * 225)


@given(cut=st.floats(0, 40), later=st.floats(0, 40))
def test_joules_grow_with_time(cut, later):
    model = fl.SystemModel(work=9.0, upload_bytes_per_s=10.0, latency_s=1.0, watts=2.0, joules_per_byte=0.1)
    turn = model.turn("1", 1, 0.0, seed=1, bytes_down=50, bytes_up=50)
    early, late = sorted((cut, later))
    assert 0 <= turn.joules(early) <= turn.joules(late) <= turn.joules()


def test_a_turn_ends_with_the_window_in_which_the_client_is_there():
    model = fl.SystemModel(work=30.0, availability=fl.Trace.of(TRACE))
    assert model.turn("a", 1, 0.0, seed=1).lost == ""
    cut = model.turn("a", 1, 20.0, seed=1)
    assert (cut.seconds, cut.lost) == (20.0, "was away after 20 s")
    assert model.turn("a", 1, 50.0, seed=1).lost == "was not there when it was asked"


def test_as_many_turns_drop_out_as_was_said_each_anew():
    model = fl.SystemModel(dropout=0.3)
    lost = [[bool(model.turn(str(c), 1, t, seed=1).lost) for c in range(2000)] for t in (0.0, 5.0)]
    assert np.mean(lost[0]) == pytest.approx(0.3, abs=0.04)
    assert lost[0] != lost[1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fl.SystemModel(dropout=1.5), "dropout must be from 0 to 1, got 1.5"),
        (lambda: fl.SystemModel(dropout="0.1"), "dropout must be from 0 to 1, got '0.1'"),
        (lambda: fl.SystemModel(availability=fl.Always), "availability must be one such as Always"),
        (lambda: fl.SystemModel(work=lambda c: None).turn("1", 1, 0.0, seed=1), "work must be a finite number .* None"),
        (lambda: fl.LogNormal("x"), "median must be a finite number above 0, got 'x'"),
        (lambda: fl.Empirical(["a"]), "values must be numbers, got 'a' among them"),
        (lambda: fl.Empirical([1.0, math.nan]), "values must be numbers, got nan among them"),
        (lambda: fl.Empirical(3), "values must hold at least one number, got 3"),
        (lambda: fl.Trace.of([(0, "a")]), r"record 1 must be \(time, client, state\), got \(0, 'a'\)"),
        (lambda: fl.Trace.of([(0, "a", "on")], period_s="x"), "period_s must be above 0 or None, got 'x'"),
        (lambda: fl.Buffered(concurrency=1, staleness_exponent="1"), "staleness_exponent must be a finite number"),
        (lambda: fl.FedAsync(concurrency=1, mixing="a"), "mixing must be above 0 and at most 1, got 'a'"),
        (lambda: fl.SystemModel(work=-1), "work must be a number of at least 0"),
        (lambda: fl.SystemModel(work="much"), "work must be a number of at least 0"),
        (lambda: fl.SystemModel(availability=8), "availability must be one such as"),
        (lambda: fl.SystemModel(work=lambda client: -2).turn("3", 1, 0.0, seed=1), "got -2 for client 3"),
        (lambda: fl.SystemModel(work=lambda client: math.nan).turn("3", 1, 0.0, seed=1), "got nan for client 3"),
        (lambda: fl.LogNormal(0.0), "median must be"),
        (lambda: fl.Pareto(alpha=0.0), "alpha must be"),
        (lambda: fl.Zipf(most=0), "most must be"),
        (lambda: fl.Empirical([]), "at least one number"),
        (lambda: fl.HalfNormal(math.inf), "scale must be"),
        (lambda: fl.Diurnal(chance=0.0), "chance must be"),
        (lambda: fl.OnOff(on_s=-1.0), "on_s must be"),
    ],
)
def test_what_is_no_model_is_refused_with_its_value(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_hundred_million_clients_are_drawn_by_availability_without_listing_them():
    model = fl.SystemModel(availability=fl.Diurnal(chance=0.5))
    present = Present(Everyone(10**8), model, 3, lambda: 7200.0)
    found = present.sample(11, 1000)
    assert len(set(found)) == 1000
    assert all(model.is_there(client, 7200.0, 3) for client in found)
    assert found == present.sample(11, 1000)
    assert present.soonest(10) == 7200.0


def test_in_a_small_population_everybody_who_is_there_is_found():
    model = fl.SystemModel(availability=fl.OnOff(10.0, 990.0))
    present = Present(Everyone(3000), model, 3, lambda: 50.0)
    there = {str(c) for c in range(3000) if model.is_there(str(c), 50.0, 3)}
    assert 5 < len(there) < 100
    assert set(present.sample(1, len(there))) == there
    assert set(present.sample(1, 3000)) == there


def test_the_soonest_moment_is_when_enough_come():
    trace = fl.Trace.of([(10, "0", "on"), (30, "0", "off"), (20, "1", "on"), (25, "1", "off"), (50, "0", "on")])
    present = Present(Everyone(2), fl.SystemModel(availability=trace), 1, lambda: 0.0)
    assert present.soonest(1) == 10.0
    assert present.soonest(2) == 20.0
    assert present.soonest(1, {"0"}) == 20.0
    assert present.soonest(3) == math.inf
